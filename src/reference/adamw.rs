//! One step of AdamW (Loshchilov and Hutter, 2019).

/// The constants of a step.
///
/// ```
/// use crossmodal::reference::{AdamwStep, adamw};
/// let step = AdamwStep { learning_rate: 0.1, ..Default::default() };
/// let (mut w, mut m, mut v) = ([1.], [0.], [0.]);
/// adamw(&step, &mut w, &[0.5], &mut m, &mut v);
/// assert!((w[0] - 0.9).abs() < 1e-8);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamwStep {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// The decay of the first moment.
    pub beta1: f64,
    /// The decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: the weight is multiplied by `1 − learning_rate · weight_decay` first.
    pub weight_decay: f64,
    /// The number of this step, from 1.
    pub step: u32,
}

impl Default for AdamwStep {
    fn default() -> Self {
        AdamwStep { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0., step: 1 }
    }
}

impl AdamwStep {
    /// `1 − β₁ᵗ` and `1 − β₂ᵗ`.
    ///
    /// ```
    /// let step = crossmodal::reference::AdamwStep { beta1: 0.5, beta2: 0.5, step: 3, ..Default::default() };
    /// assert_eq!(step.corrections(), (0.875, 0.875));
    /// ```
    pub fn corrections(&self) -> (f64, f64) {
        let t = f64::from(self.step);
        (1. - self.beta1.powf(t), 1. - self.beta2.powf(t))
    }
}

/// `w ← w (1 − ηλ) − η (m / c₁) / (√(v / c₂) + ε)` with `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, in
/// place; `c` are the step's [`corrections`](AdamwStep::corrections). Example: [`AdamwStep`].
pub fn adamw(step: &AdamwStep, weight: &mut [f64], grad: &[f64], first: &mut [f64], second: &mut [f64]) {
    let (c1, c2) = step.corrections();
    for (((w, g), m), v) in weight.iter_mut().zip(grad).zip(first).zip(second) {
        *m = step.beta1 * *m + (1. - step.beta1) * g;
        *v = step.beta2 * *v + (1. - step.beta2) * g * g;
        let ratio = (*m / c1) / ((*v / c2).sqrt() + step.eps);
        *w = *w * (1. - step.learning_rate * step.weight_decay) - step.learning_rate * ratio;
    }
}
