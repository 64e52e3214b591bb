//! Learning rates over time.

/// A linear warm-up, then half a cosine down to 0 (Loshchilov and Hutter, 2017).
///
/// ```
/// use crossmodal::optim::CosineSchedule;
/// let schedule = CosineSchedule { base: 1., warmup_steps: 2, total_steps: 6 };
/// let rates: Vec<_> = (0..7).map(|step| (schedule.at(step) * 1e3).round() / 1e3).collect();
/// assert_eq!(rates, [0.5, 1., 1., 0.854, 0.5, 0.146, 0.]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CosineSchedule {
    /// The rate at the top.
    pub base: f64,
    /// Steps of rising: step `s` has `base (s + 1) / warmup_steps`.
    pub warmup_steps: u32,
    /// All steps, the warm-up's among them.
    pub total_steps: u32,
}

impl CosineSchedule {
    /// The rate of a step, counted from 0; behind the warm-up, 0 from `total_steps` on.
    ///
    /// ```
    /// let schedule = crossmodal::optim::CosineSchedule { base: 2., warmup_steps: 0, total_steps: 4 };
    /// assert_eq!((schedule.at(0), schedule.at(4)), (2., 0.));
    /// assert!((schedule.at(2) - 1.).abs() < 1e-12);
    /// ```
    pub fn at(&self, step: u32) -> f64 {
        if step < self.warmup_steps {
            return self.base * f64::from(step + 1) / f64::from(self.warmup_steps);
        }
        if step >= self.total_steps {
            return 0.;
        }
        let done = f64::from(step - self.warmup_steps) / f64::from(self.total_steps - self.warmup_steps);
        self.base * 0.5 * (1. + (std::f64::consts::PI * done).cos())
    }
}
