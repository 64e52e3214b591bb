//! Elementwise functions and their derivatives.

/// An elementwise function.
///
/// ```
/// use crossmodal::reference::Unary;
/// assert_eq!([-2., 0.5, 2.].map(|v| Unary::Clamp(-1., 1.).apply(v)), [-1., 0.5, 1.]);
/// assert_eq!((Unary::Scale(3.).apply(2.), Unary::Scale(3.).derivative(2.)), (6., 3.));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `c v`.
    Scale(f64),
    /// `v + c`.
    Shift(f64),
    /// `eᵛ`.
    Exp,
    /// `ln v`.
    Log,
    /// `tanh v`.
    Tanh,
    /// `1 / (1 + e⁻ᵛ)`.
    Sigmoid,
    /// `max(v, 0)`, with derivative 0 at 0.
    Relu,
    /// `v Φ(v)`, the exact form by the error function (Hendrycks and Gimpel, 2016).
    Gelu,
    /// `v σ(2√(2/π)(v + 0.044715 v³))`, the same paper's approximation by tanh.
    GeluTanh,
    /// `min(max(v, low), high)`, with derivative 1 on the closed interval.
    Clamp(f64, f64),
    /// `ln(1 + eᵛ)`, without overflow.
    Softplus,
    /// `vᵖ` for v ≥ 0, with derivative 0 at 0.
    Power(f64),
}

const SQRT_2_OVER_PI: f64 = 0.797_884_560_802_865_4;

fn sigmoid(v: f64) -> f64 {
    1. / (1. + (-v).exp())
}

/// The normal distribution function; by erfc, which does not cancel in the left tail.
fn normal_cdf(v: f64) -> f64 {
    0.5 * libm::erfc(-v * std::f64::consts::FRAC_1_SQRT_2)
}

impl Unary {
    /// `f(v)`.
    ///
    /// ```
    /// assert_eq!(crossmodal::reference::Unary::Relu.apply(-1.), 0.);
    /// ```
    pub fn apply(self, v: f64) -> f64 {
        match self {
            Unary::Scale(c) => c * v,
            Unary::Shift(c) => v + c,
            Unary::Exp => v.exp(),
            Unary::Log => v.ln(),
            Unary::Tanh => v.tanh(),
            Unary::Sigmoid => sigmoid(v),
            Unary::Relu => {
                if v > 0. || v.is_nan() {
                    v
                } else {
                    0.
                }
            }
            Unary::Gelu => v * normal_cdf(v),
            Unary::GeluTanh => v * sigmoid(2. * SQRT_2_OVER_PI * (v + 0.044715 * v * v * v)),
            Unary::Softplus => v.max(0.) + (-v.abs()).exp().ln_1p(),
            Unary::Power(p) => v.powf(p),
            Unary::Clamp(low, high) => {
                if v < low {
                    low
                } else if v > high {
                    high
                } else {
                    v
                }
            }
        }
    }

    /// `f'(v)`.
    ///
    /// ```
    /// assert_eq!(crossmodal::reference::Unary::Sigmoid.derivative(0.), 0.25);
    /// ```
    pub fn derivative(self, v: f64) -> f64 {
        match self {
            Unary::Scale(c) => c,
            Unary::Shift(_) => 1.,
            Unary::Exp => v.exp(),
            Unary::Log => 1. / v,
            Unary::Tanh => v.cosh().powi(-2),
            Unary::Sigmoid => sigmoid(v) * sigmoid(-v),
            Unary::Relu => f64::from(v > 0.),
            Unary::Gelu => {
                let density = (-0.5 * v * v).exp() / (2. * std::f64::consts::PI).sqrt();
                normal_cdf(v) + v * density
            }
            Unary::GeluTanh => {
                let u = 2. * SQRT_2_OVER_PI * (v + 0.044715 * v * v * v);
                let du = 2. * SQRT_2_OVER_PI * (1. + 3. * 0.044715 * v * v);
                sigmoid(u) + v * sigmoid(u) * sigmoid(-u) * du
            }
            Unary::Softplus => sigmoid(v),
            Unary::Power(p) => {
                if v == 0. {
                    0.
                } else {
                    p * v.powf(p - 1.)
                }
            }
            Unary::Clamp(low, high) => f64::from(v >= low && v <= high),
        }
    }
}
