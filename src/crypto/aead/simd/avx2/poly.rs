use super::super::poly1305;
use super::super::rows::ROW;
use super::super::TAG_LEN;
#[target_feature(enable = "avx2")]
#[inline(never)]
pub(super) fn tags(keys: &[[u8; ROW]], texts: &[&[u8]], tags: &mut [[u8; TAG_LEN]]) {
    for ((key, text), tag) in keys.iter().zip(texts).zip(tags) {
        if let Some(key) = key.first_chunk() {
            *tag = poly1305::tag(key, &[], text);
        }
    }
}
