//! Runs the cipher under valgrind with its secrets marked as undefined, which Memcheck follows through
//! every computation: it reports each branch and each address that depends on them.
//!
//! Secret are keys and plaintexts, and what is made of them. Public are lengths, counters, associated
//! data, ciphertexts that arrive, and the verdict on them. A verdict becomes public where `subtle`
//! hands it out: valgrind puts [`declassify`] in the place of that crate's function through which
//! every `Choice` passes. How often that happens is counted, and must not depend on secrets either: a
//! comparison that ended at the first difference would do it less often.
//!
//! The controls are functions that do leak. Where valgrind does not report them, the proof fails.

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use quietwire::Backend;
use quietwire::internals::{Aead, Open, Seal, TAG_LEN, open_batch, seal_batch};
use quietwire_ct::{Rng, leaky_branch, leaky_eq, leaky_table, sealed};

const LENGTHS: [usize; 16] = [
    0, 1, 15, 16, 17, 63, 64, 65, 100, 128, 200, 256, 300, 600, 1420, 2100,
];
const BATCHES: [usize; 8] = [2, 3, 5, 8, 9, 16, 17, 70];

/// Asks valgrind for something; `otherwise` when it is not there.
#[cfg(target_arch = "x86_64")]
fn request(otherwise: usize, number: usize, start: usize, len: usize) -> usize {
    let words = [number, start, len, 0, 0, 0];
    let answer;
    // SAFETY: the sequence by which valgrind knows a request, which leaves rdi as it was and does
    // nothing on a processor; the six words outlive it.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") words.as_ptr(), inout("rdx") otherwise => answer,
        );
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
fn request(otherwise: usize, _number: usize, _start: usize, _len: usize) -> usize {
    otherwise
}

fn is_under_valgrind() -> bool {
    request(0, 0x1001, 0, 0) > 0
}

fn errors() -> usize {
    request(0, 0x1201, 0, 0)
}

fn hide(bytes: &mut [u8]) {
    request(0, 0x4d43_0001, bytes.as_mut_ptr().addr(), bytes.len());
}

fn show<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).addr();
    request(0, 0x4d43_0002, start, size_of_val(value));
}

static VERDICTS: AtomicUsize = AtomicUsize::new(0);

/// Valgrind calls this in place of `subtle::black_box`, for the name that it has: for any file without
/// a name of its own, any function whose name holds `6subtle` and `9black_box`.
// SAFETY: no other symbol has such a name.
#[unsafe(export_name = "_vgr00000ZZ_NONE_Za6subtleZa9blackZuboxZa")]
extern "C" fn declassify(choice: u8) -> u8 {
    VERDICTS.fetch_add(1, Ordering::Relaxed);
    show(&choice);
    // As the function does that it stands for.
    std::hint::black_box(choice)
}

/// Keeps it in the program, which does not call it.
#[used]
static KEPT: extern "C" fn(u8) -> u8 = declassify;

fn secret_key(key: [u8; 32], backend: Backend) -> Aead {
    let mut key = key;
    hide(&mut key);
    Aead::new(key, backend)
}

/// What was found wrong, and how much was run.
#[derive(Default)]
struct Report {
    is_bad: bool,
}

impl Report {
    /// Runs a case, which must cause no report, or some if it `leaks`, and gives out `verdicts`.
    fn case(&mut self, name: &str, leaks: bool, run: impl FnOnce() -> usize) {
        VERDICTS.store(0, Ordering::Relaxed);
        let before = errors();
        let messages = run();
        let (found, verdicts) = (errors() - before, VERDICTS.load(Ordering::Relaxed));
        let is_right = (found > 0) == leaks;
        self.is_bad |= !is_right;
        let word = if is_right { "ok" } else { "WRONG" };
        println!("{word:5}  {name}: {messages} messages, {found} reports, {verdicts} verdicts");
    }
}

fn seal_alone(backend: Backend, aad: &[u8]) -> usize {
    let mut rng = Rng(1);
    for len in LENGTHS {
        let (key, text) = (rng.key(), rng.bytes(len));
        let mut buffer = [&text[..], &[0; TAG_LEN]].concat();
        hide(&mut buffer[..len]);
        let aead = secret_key(key, backend);
        aead.seal(1, aad, &mut buffer);
        show(&buffer[..]);
        assert_eq!(buffer, sealed(key, aad, &text));
    }
    assert_eq!(VERDICTS.load(Ordering::Relaxed), 0, "nothing to decide");
    LENGTHS.len()
}

/// With a bit of the tag flipped, if it is to be forged.
fn open_alone(backend: Backend, aad: &[u8], forged: Option<usize>) -> usize {
    let mut rng = Rng(2);
    for len in LENGTHS {
        let (key, text) = (rng.key(), rng.bytes(len));
        let mut buffer = sealed(key, aad, &text);
        if let Some(at) = forged {
            buffer[len + at] ^= 1;
        }
        let before = VERDICTS.load(Ordering::Relaxed);
        let aead = secret_key(key, backend);
        let authentic = aead.open(1, aad, &mut buffer);
        show(&buffer[..]);
        show(&authentic);
        assert_eq!(authentic, forged.is_none());
        assert!(forged.is_some() || buffer[..len] == text);
        let verdicts = VERDICTS.load(Ordering::Relaxed) - before;
        assert!(
            verdicts == 1 || verdicts == TAG_LEN + 1,
            "{verdicts} verdicts: all bytes are compared, or all at once"
        );
    }
    LENGTHS.len()
}

fn texts(rng: &mut Rng, size: usize) -> Vec<([u8; 32], Vec<u8>)> {
    let text = |at: usize| {
        let len = LENGTHS[(at * 7 + size) % LENGTHS.len()];
        (rng.key(), rng.bytes(len))
    };
    (0..size).map(text).collect()
}

fn seal_in_batches(backend: Backend, in_place: bool) -> usize {
    let mut rng = Rng(3);
    for size in BATCHES {
        let texts = texts(&mut rng, size);
        let mut sources: Vec<_> = texts.iter().map(|(_, text)| text.clone()).collect();
        let mut keys: Vec<_> = texts
            .iter()
            .map(|(key, _)| secret_key(*key, backend))
            .collect();
        let mut buffers: Vec<_> = texts
            .iter()
            .map(|(_, text)| [&text[..], &[0; TAG_LEN]].concat())
            .collect();
        for (source, buffer) in sources.iter_mut().zip(&mut buffers) {
            let len = source.len();
            hide(source);
            hide(&mut buffer[..len]);
        }
        let lanes = keys.iter_mut().zip(&sources).zip(&mut buffers);
        seal_batch(lanes.map(|((key, source), buffer)| Seal {
            key,
            counter: 1,
            source: (!in_place).then_some(&source[..]),
            buffer,
        }));
        for ((key, text), buffer) in texts.iter().zip(&buffers) {
            show(&buffer[..]);
            assert_eq!(*buffer, sealed(*key, &[], text));
        }
    }
    assert_eq!(VERDICTS.load(Ordering::Relaxed), 0, "nothing to decide");
    BATCHES.iter().sum()
}

/// Every third is forged, in a byte of the tag.
fn open_in_batches(backend: Backend) -> usize {
    let mut rng = Rng(4);
    for size in BATCHES {
        let texts = texts(&mut rng, size);
        let mut keys: Vec<_> = texts
            .iter()
            .map(|(key, _)| secret_key(*key, backend))
            .collect();
        let mut buffers: Vec<_> = texts
            .iter()
            .map(|(key, text)| sealed(*key, &[], text))
            .collect();
        for (at, buffer) in buffers.iter_mut().enumerate().step_by(3) {
            let tag = buffer.len() - TAG_LEN;
            buffer[tag + at % TAG_LEN] ^= 0x10;
        }
        let before = VERDICTS.load(Ordering::Relaxed);
        let mut verdicts = vec![false; size];
        let lanes = keys.iter_mut().zip(&mut buffers).zip(&mut verdicts);
        open_batch(lanes.map(|((key, buffer), authentic)| Open {
            key,
            counter: 1,
            buffer,
            authentic,
        }));
        let made = VERDICTS.load(Ordering::Relaxed) - before;
        assert!(
            made == size || made == size * (TAG_LEN + 1),
            "{made} verdicts"
        );
        for (at, ((_, text), buffer)) in texts.iter().zip(&buffers).enumerate() {
            show(&buffer[..]);
            show(&verdicts[at]);
            assert_eq!(verdicts[at], at % 3 != 0);
            assert!(!verdicts[at] || buffer[..text.len()] == *text);
        }
    }
    BATCHES.iter().sum()
}

/// What valgrind must report.
fn controls(report: &mut Report) {
    type Leak = fn(&[u8]);
    let leaks: [(&str, Leak); 3] = [
        ("a branch", |secret| {
            show(&leaky_branch(secret));
        }),
        ("a table", |secret| {
            show(&leaky_table(secret));
        }),
        ("an early end", |secret| {
            show(&leaky_eq(secret, &[9; 16]));
        }),
    ];
    for (name, leak) in leaks {
        report.case(&format!("control: {name}"), true, || {
            let mut secret = Rng(5).bytes(16);
            hide(&mut secret);
            leak(&secret);
            show(&secret[..]);
            1
        });
    }
}

fn main() -> ExitCode {
    if !is_under_valgrind() {
        println!("this means something under valgrind only");
        return ExitCode::FAILURE;
    }
    let mut report = Report::default();
    controls(&mut report);
    for backend in Backend::available() {
        let mut case = |name, run: &dyn Fn() -> usize| {
            report.case(&format!("{backend}: {name}"), false, run);
        };
        case("seal", &|| seal_alone(backend, &[]));
        case("seal with aad", &|| seal_alone(backend, &[7; 32]));
        case("open", &|| open_alone(backend, &[], None));
        case("open with aad", &|| open_alone(backend, &[7; 32], None));
        case("forged, first byte", &|| open_alone(backend, &[], Some(0)));
        case("forged, last byte", &|| open_alone(backend, &[], Some(15)));
        case("seal batches in place", &|| seal_in_batches(backend, true));
        case("seal batches apart", &|| seal_in_batches(backend, false));
        case("open batches", &|| open_in_batches(backend));
    }
    if report.is_bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
