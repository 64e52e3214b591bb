//! The exponential function in a form that the compiler turns into vector instructions.

/// `eˣ` within 2 units in the last place for x ≤ 88; below −87 it stays at e⁻⁸⁷, which no sum of exponentials with maximum 1
/// can tell from 0. NaN stays NaN.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2²³ rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87. { -87. } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let tail = 1. / 120. + r * (1. / 720. + r * (1. / 5040.));
    let series = 1. + r * (1. + r * (0.5 + r * (1. / 6. + r * (1. / 24. + r * tail))));
    series * f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23))
}

#[cfg(test)]
mod tests {
    #[test]
    fn is_within_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for i in 0..=1_750_000 {
            let x = -87. + i as f32 * 1e-4;
            let want = f64::from(x).exp();
            worst = worst.max(((f64::from(super::exp(x)) - want) / want).abs());
        }
        assert!(worst < 2. * 2f64.powi(-23), "{worst:e}");
        assert!(super::exp(f32::NAN).is_nan() && super::exp(-1e30) < 2e-38);
        assert_eq!(super::exp(0.), 1.);
    }
}
