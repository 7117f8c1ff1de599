use super::*;
use std::time::Instant;
use std::vec::Vec;
fn best(name: &str, n: u32, mut f: impl FnMut()) {
    let mut v: Vec<f64> = (0..300)
        .map(|_| {
            let t = Instant::now();
            for _ in 0..n {
                f();
            }
            t.elapsed().as_nanos() as f64 / f64::from(n)
        })
        .collect();
    v.sort_by(f64::total_cmp);
    std::println!("{name:40} {:8.1} ns", v[15]);
}
#[test]
fn timing() {
    let mut x = 1u64;
    best("1000 dependent adds (cycles)", 10, || {
        for _ in 0..1000 {
            x = std::hint::black_box(x.wrapping_add(1));
        }
    });
    let mut y = 1u64;
    best("1000 dependent imul*3 cycles", 10, || {
        for _ in 0..1000 {
            y = y.wrapping_mul(y | 3).wrapping_add(5);
        }
    });
    std::hint::black_box(y);
    let k = Avx512::detect().unwrap();
    let mut data = std::vec![0x55u8; 33 * 64];
    let st = [State::ZERO; 16];
    let sr: Vec<&State> = st.iter().collect();
    let mut packets = Packets::ZERO;
    k.sort(&sr, &mut packets);
    let mut data2 = std::vec![0x55u8; 33 * 64 + 16];
    for n in [8, 16, 24, 32] {
        let mut scratch = Scratch::<16, 17>::new();
        let mut lanes = Lanes::new(&mut scratch);
        let text = Text::in_place(&mut data[..64 * n + 16]).unwrap();
        lanes.push_text(0, &text, 0);
        lanes.close();
        best(&std::format!("xor {n}"), 100, || k.xor(&packets, &lanes));
    }
    let rows = [[7u8; 64]; 16];
    for len in [64, 576, 1420] {
        let texts: Vec<Vec<u8>> = (0..16).map(|_| std::vec![3u8; len]).collect();
        let texts: Vec<&[u8]> = texts.iter().map(|t| &t[..]).collect();
        let mut tags = [[0; 16]; 16];
        best(&std::format!("tags 16 x {len}"), 20, || {
            k.tags(&rows, &texts, &mut tags)
        });
        best(&std::format!("tags 1 x {len}"), 20, || {
            k.tags(&rows[..1], &texts[..1], &mut tags[..1])
        });
    }
    for len in [65536usize, 64, 128, 192, 256, 320, 576, 1420] {
        let text = std::vec![3u8; len];
        let key = [7u8; 64];
        best(&std::format!("scalar {len}"), 50, || {
            std::hint::black_box(poly1305::tag(key.first_chunk().unwrap(), &[], &text));
        });
        best(&std::format!("ifma   {len}"), 50, || {
            std::hint::black_box(avx512::poly_one::tag(k, &key, &text));
        });
        for n in [2, 3, 4, 8] {
            let texts: Vec<&[u8]> = (0..n).map(|_| &text[..]).collect();
            let mut tags = [[0; 16]; 16];
            best(&std::format!("side by side {n} x {len} (each)"), 50, || {
                k.tags(&rows[..n], &texts, &mut tags[..n]);
            });
        }
    }
    best("states 16", 20, || {
        for p in 0..16u8 {
            std::hint::black_box(State::new(&[p; 32], &[1; 12]));
        }
    });
    best("packets 16", 20, || {
        let mut packets = Packets::ZERO;
        k.sort(&sr, &mut packets);
        std::hint::black_box(&packets);
    });
    best("scratch new+drop", 20, || {
        let mut s = Scratch::<16, 17>::new();
        std::hint::black_box(&mut s);
    });
    best("scratch+lanes new+drop", 20, || {
        let mut s = Scratch::<16, 17>::new();
        let mut l = Lanes::new(&mut s);
        std::hint::black_box(&mut l);
    });
    best("scratch+lanes new+drop+16 key", 20, || {
        let mut s = Scratch::<16, 17>::new();
        let mut l = Lanes::new(&mut s);
        l.push_keys(16);
        std::hint::black_box(&mut l);
    });
    let _ = &mut data2;
}
