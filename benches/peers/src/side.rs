//! What runs against what, and whether they say the same.

/// A result, or in one line why there is none.
pub(crate) type Outcome<T> = Result<T, String>;

/// One library with its inputs on the device.
pub(crate) trait Side {
    /// One call. Every result is computed when it returns: a value of each has come to the host.
    fn call(&mut self) -> Outcome<Vec<f32>>;

    /// One call, with all values of all results.
    fn results(&mut self) -> Outcome<Vec<Vec<f32>>>;
}

/// Results that differ by more than this part of their largest value are of different problems.
pub(crate) const TOLERANCE: f64 = 1e-3;

/// The largest difference of two sides' results, each as a part of the largest value of that result.
pub(crate) fn difference(ours: &[Vec<f32>], theirs: &[Vec<f32>]) -> Outcome<f64> {
    let lengths = |results: &[Vec<f32>]| results.iter().map(Vec::len).collect::<Vec<_>>();
    if lengths(ours) != lengths(theirs) {
        return Err(format!("expected results of {:?} values, got {:?}", lengths(ours), lengths(theirs)));
    }
    let mut most = 0f64;
    for (a, b) in ours.iter().zip(theirs) {
        let largest = a.iter().fold(f32::MIN_POSITIVE, |most, v| most.max(v.abs()));
        // A NaN is no difference, and `max` would lose it.
        if !a.iter().chain(b).all(|v| v.is_finite()) {
            return Err("expected finite results".into());
        }
        let apart = a.iter().zip(b).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
        most = most.max(f64::from(apart) / f64::from(largest));
    }
    if most > TOLERANCE { Err(format!("the results differ by {most:.1e}")) } else { Ok(most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_refused() {
        assert_eq!(difference(&[vec![1., 2.]], &[vec![1., 2.]]), Ok(0.));
        assert!(difference(&[vec![1., 2.]], &[vec![1., 2.1]]).is_err());
        assert!(difference(&[vec![1., 2.]], &[vec![1., f32::NAN]]).is_err());
        assert!(difference(&[vec![1., 2.]], &[vec![1.]]).is_err());
    }
}
