//! How far a device may be from the f64 reference, and why.

use crate::device::Device;
use crate::dtype::DType;

/// `|got − want| ≤ abs + rel · |want|`. Built by constructors that carry the reason; `u = 2⁻²⁴` is the rounding of f32.
///
/// ```
/// use crossmodal::cases::Tolerance;
/// let tolerance = Tolerance { abs: 0.5, rel: 0.25, magnitude: 0. };
/// assert_eq!(tolerance.ratio(103., 100.), 3. / 25.5);
/// assert_eq!(tolerance.ratio(f64::NAN, 100.), f64::INFINITY);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// The part that does not depend on the result.
    pub abs: f64,
    /// The part in proportion to the result.
    pub rel: f64,
    /// The size of the intermediate results that f16 storage would round.
    pub magnitude: f64,
}

const U: f64 = 1. / (1 << 24) as f64;
const U16: f64 = 1. / (1 << 11) as f64;
/// The least normal f32: WGSL lets a device flush what is smaller.
const TINY: f64 = 1.2e-38;
/// Half the least f16 above 0.
const TINY16: f64 = 3e-8;

impl Tolerance {
    /// No difference at all: copies, comparisons, and sums of integers that f32 holds exactly.
    ///
    /// ```
    /// assert_eq!(crossmodal::cases::Tolerance::exact().ratio(1., 1. + 1e-12), f64::INFINITY);
    /// ```
    pub const fn exact() -> Self {
        Tolerance { abs: 0., rel: 0., magnitude: 0. }
    }

    /// `n` units in the last place, for a handful of roundings or for functions that WGSL bounds so.
    ///
    /// ```
    /// let tolerance = crossmodal::cases::Tolerance::ulps(1.);
    /// assert!(tolerance.ratio(1. + f64::from(f32::EPSILON), 1.) <= 1.);
    /// assert!(tolerance.ratio(1.000001, 1.) > 1.);
    /// ```
    pub const fn ulps(n: f64) -> Self {
        Tolerance { abs: TINY, rel: n * 2. * U, magnitude: 0. }
    }

    /// Exponentials of arguments of size up to `range`: WGSL allows `3 + 2 |v|` units in the last place, and the argument's
    /// own rounding adds `|v|` more.
    ///
    /// ```
    /// use crossmodal::cases::Tolerance;
    /// assert_eq!(Tolerance::exponential(4.), Tolerance::ulps(20.));
    /// ```
    pub const fn exponential(range: f64) -> Self {
        Self::ulps(8. + 3. * range)
    }

    /// A sum of `k` terms of size at most `magnitude`: `u k magnitude`. The worst case is k times that; partial sums of
    /// random sign grow as √k and so do their roundings, whose product this is (Higham and Mary, 2019).
    ///
    /// ```
    /// use crossmodal::cases::Tolerance;
    /// assert!(Tolerance::accumulate(1000, 1.).ratio(1e-5, 0.) <= 1.);
    /// ```
    pub const fn accumulate(k: usize, magnitude: f64) -> Self {
        Tolerance { abs: (k + 4) as f64 * U * magnitude + TINY, rel: 2. * U, magnitude: 0. }
    }

    /// An error that does not shrink with the result: `n` units in the last place of numbers of size `magnitude` which
    /// cancel in it.
    ///
    /// ```
    /// let tolerance = crossmodal::cases::Tolerance::cancelling(2., 100.);
    /// assert!(tolerance.ratio(1e-5, 0.) <= 1. && tolerance.ratio(1e-4, 0.) > 1.);
    /// ```
    pub const fn cancelling(n: f64, magnitude: f64) -> Self {
        Tolerance { abs: n * 2. * U * magnitude, rel: 0., magnitude: 0. }
    }

    /// The error of an intermediate result that goes into the result as it is, whatever the result's size: a sum's into its
    /// logarithm, a probability's into a gradient.
    ///
    /// ```
    /// let tolerance = crossmodal::cases::Tolerance::carried(0.5);
    /// assert_eq!((tolerance.ratio(1.5, 1.), tolerance.ratio(1000.5, 1000.)), (1., 1.));
    /// ```
    pub const fn carried(error: f64) -> Self {
        Tolerance { abs: error, rel: 0., magnitude: 0. }
    }

    /// Both together.
    ///
    /// ```
    /// use crossmodal::cases::Tolerance;
    /// let both = Tolerance::ulps(2.).and(Tolerance::cancelling(1., 1.));
    /// assert_eq!((both.rel, both.abs > 1e-8), (Tolerance::ulps(2.).rel, true));
    /// ```
    pub const fn and(self, other: Self) -> Self {
        let magnitude = if self.magnitude > other.magnitude { self.magnitude } else { other.magnitude };
        Tolerance { abs: self.abs + other.abs, rel: self.rel + other.rel, magnitude }
    }

    /// With intermediate results of this size stored: in f16 their rounding counts too.
    ///
    /// ```
    /// use crossmodal::{DType, Device, cases::Tolerance};
    /// let tolerance = Tolerance::ulps(2.);
    /// assert!(tolerance.storing(1.).stored_as(DType::F16, &Device::Cpu).abs > tolerance.stored_as(DType::F16, &Device::Cpu).abs);
    /// ```
    pub const fn storing(self, magnitude: f64) -> Self {
        Tolerance { magnitude, ..self }
    }

    /// The tolerance where a device stores tensors as `dtype`: f16 adds its rounding of the result and of what was stored
    /// on the way, half a unit in the last place on the CPU, a whole one on a GPU, since WGSL leaves open which neighbour is
    /// taken; [`Tolerance::exact`] stays exact.
    ///
    /// ```
    /// use crossmodal::{DType, Device, cases::Tolerance};
    /// let tolerance = Tolerance::ulps(2.);
    /// assert_eq!(tolerance.stored_as(DType::F32, &Device::Cpu), tolerance);
    /// assert!(tolerance.stored_as(DType::F16, &Device::Cpu).rel > 1. / 2048.);
    /// ```
    pub fn stored_as(self, dtype: DType, device: &Device) -> Self {
        if dtype != DType::F16 || self == Self::exact() {
            return self;
        }
        let unit = if *device == Device::Cpu { U16 } else { 2. * U16 };
        Tolerance { abs: self.abs + TINY16 + 4. * unit * self.magnitude, rel: self.rel + 1.01 * unit, ..self }
    }

    /// The error over what is allowed: at most 1 passes. NaN equals only NaN, an infinity only itself.
    /// Example: [`Tolerance`].
    pub fn ratio(&self, got: f64, want: f64) -> f64 {
        if got == want || (got.is_nan() && want.is_nan()) {
            return 0.;
        }
        let error = (got - want).abs();
        let allowed = self.abs + self.rel * want.abs();
        // NaN on either side, and an infinity against anything else, must come out as infinite.
        if error.is_finite() && allowed.is_finite() && allowed > 0. { error / allowed } else { f64::INFINITY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_equals_only_nan() {
        let tolerance = Tolerance::ulps(4.);
        assert_eq!(tolerance.ratio(f64::NAN, f64::NAN), 0.);
        assert_eq!(tolerance.ratio(f64::NAN, 1.), f64::INFINITY);
        assert_eq!(tolerance.ratio(1., f64::NAN), f64::INFINITY);
        assert_eq!(tolerance.ratio(f64::INFINITY, 1e300), f64::INFINITY);
        assert_eq!(tolerance.ratio(1., f64::INFINITY), f64::INFINITY);
        assert_eq!(tolerance.ratio(f64::INFINITY, f64::INFINITY), 0.);
    }

    #[test]
    fn exact_means_equal() {
        assert_eq!(Tolerance::exact().ratio(1., 1.), 0.);
        assert_eq!(
            Tolerance::exact().stored_as(DType::F16, &Device::Cpu).ratio(1.0000001, 1.),
            f64::INFINITY
        );
    }
}
