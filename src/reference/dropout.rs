//! Which elements dropout keeps.

/// Dropout with probability `p`, by a generator that counts: element i is kept or not whatever the others are.
///
/// ```
/// use crossmodal::reference::Dropout;
/// let dropout = Dropout { p: 0.5, seed: 7, first: 0 };
/// let kept = (0..10_000).filter(|&i| dropout.keeps(i)).count();
/// assert!((4_800..5_200).contains(&kept));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The part of the elements that is dropped, in [0, 1).
    pub p: f64,
    /// The same seed keeps the same elements, on every device.
    pub seed: u64,
    /// The number of the first element: what is dropped in parts is what would be dropped at once.
    pub first: u32,
}

const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];

/// The first words of Threefry for the counters `(first, stream)` to `(first + LANES − 1, stream)`, in a form that the compiler
/// turns into vector instructions.
#[inline(always)]
pub(crate) fn threefry_words<const LANES: usize>(seed: u64, stream: u32, first: u32) -> [u32; LANES] {
    let key = [seed as u32, (seed >> 32) as u32];
    let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd1_1bda];
    let mut a: [u32; LANES] = std::array::from_fn(|i| first.wrapping_add(i as u32).wrapping_add(keys[0]));
    let mut b = [keys[1].wrapping_add(stream); LANES];
    for round in 0..20 {
        for (a, b) in a.iter_mut().zip(&mut b) {
            *a = a.wrapping_add(*b);
            *b = b.rotate_left(ROTATIONS[round % 8]) ^ *a;
        }
        if round % 4 == 3 {
            let turn = round / 4 + 1;
            let (to_a, to_b) = (keys[turn % 3], keys[(turn + 1) % 3].wrapping_add(turn as u32));
            a.iter_mut().for_each(|a| *a = a.wrapping_add(to_a));
            b.iter_mut().for_each(|b| *b = b.wrapping_add(to_b));
        }
    }
    a
}

/// Threefry-2x32 of 20 rounds (Salmon et al., 2011).
fn threefry(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], key[0] ^ key[1] ^ 0x1bd1_1bda];
    let (mut a, mut b) = (counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1]));
    for round in 0..20 {
        a = a.wrapping_add(b);
        b = b.rotate_left(ROTATIONS[round % 8]) ^ a;
        if round % 4 == 3 {
            let turn = round / 4 + 1;
            a = a.wrapping_add(keys[turn % 3]);
            b = b.wrapping_add(keys[(turn + 1) % 3]).wrapping_add(turn as u32);
        }
    }
    [a, b]
}

impl Dropout {
    /// An element is dropped where its random word is below this.
    pub(crate) fn threshold(self) -> u32 {
        (self.p * 2f64.powi(32)) as u32
    }

    /// What kept elements are multiplied by: `1 / (1 − p)`.
    pub(crate) fn scale(self) -> f64 {
        1. / (1. - self.p)
    }

    /// Whether element `i` is kept. Example: [`Dropout`].
    pub fn keeps(self, i: u32) -> bool {
        self.keeps_of(0, i)
    }

    /// Whether element `i` of a tensor with this number is kept: each has random numbers of its own.
    pub(crate) fn keeps_of(self, stream: u32, i: u32) -> bool {
        threefry([self.seed as u32, (self.seed >> 32) as u32], [self.first.wrapping_add(i), stream])[0]
            >= self.threshold()
    }
}

/// `x_i / (1 − p)` where element i is kept, else 0. Its own backward.
///
/// ```
/// use crossmodal::reference::{Dropout, dropout};
/// assert_eq!(dropout(&[1., 2.], Dropout { p: 0., seed: 0, first: 0 }), [1., 2.]);
/// ```
pub fn dropout(x: &[f64], options: Dropout) -> Vec<f64> {
    let element = |(i, v): (u32, &f64)| if options.keeps(i) { v * options.scale() } else { 0. };
    (0..).zip(x).map(element).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_words_at_once_are_the_same() {
        for stream in [0, 5] {
            let words = threefry_words::<16>(0x1234_5678_9abc_def0, stream, u32::MAX - 7);
            for (i, word) in words.into_iter().enumerate() {
                let counter = (u32::MAX - 7).wrapping_add(i as u32);
                assert_eq!(word, threefry([0x9abc_def0, 0x1234_5678], [counter, stream])[0]);
            }
        }
    }

    /// The published answers of Threefry-2x32 of 20 rounds.
    #[test]
    fn threefry_gives_its_known_answers() {
        assert_eq!(threefry([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(
            threefry([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]),
            [0xc492_3a9c, 0x483d_f7a0]
        );
    }
}
