//! L-BFGS: a smooth function's minimum from its gradients, without a learning rate to choose.

use crate::error::Result;

/// Steps that the curvature is estimated from.
const MEMORY: usize = 10;
/// What a step must bring, of what the gradient promises (Armijo).
const SUFFICIENT: f64 = 1e-4;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// At most so many steps.
    pub(crate) steps: usize,
    /// No gradient's element is larger.
    pub(crate) gradient: f64,
}

/// A step and how the gradient changed with it.
struct Step {
    x: Vec<f64>,
    gradient: Vec<f64>,
    /// `1 / ⟨x, gradient⟩`.
    scale: f64,
}

/// Walks downhill from `x` (Liu and Nocedal, 1989) with steps halved until they bring enough; ends where the gradient is small,
/// no step brings anything any more, or there have been enough. The function's value there.
pub(crate) fn minimise(
    x: &mut Vec<f64>,
    stop: Stop,
    mut function: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<f64> {
    let (mut value, mut gradient) = function(x)?;
    let mut memory: Vec<Step> = vec![];
    for _ in 0..stop.steps {
        if gradient.iter().all(|g| g.abs() <= stop.gradient) {
            break;
        }
        let mut direction = downhill(&gradient, &memory);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0. {
            // Rounding has spoilt what was known of the curvature.
            memory.clear();
            direction = downhill(&gradient, &memory);
            slope = dot(&direction, &gradient);
        }
        let mut size = if memory.is_empty() { 1. / dot(&gradient, &gradient).sqrt().max(1.) } else { 1. };
        let found = loop {
            let next: Vec<f64> = x.iter().zip(&direction).map(|(x, d)| x + size * d).collect();
            let (next_value, next_gradient) = function(&next)?;
            if next_value <= value + SUFFICIENT * size * slope {
                break Some((next, next_value, next_gradient));
            }
            size *= 0.5;
            if size < 1e-6 {
                break None;
            }
        };
        let Some((next, next_value, next_gradient)) = found else { break };
        let difference = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>();
        let (step, change) = (difference(&next, x), difference(&next_gradient, &gradient));
        let curvature = dot(&step, &change);
        if curvature > 1e-12 * dot(&change, &change) {
            if memory.len() == MEMORY {
                memory.remove(0);
            }
            memory.push(Step { x: step, gradient: change, scale: 1. / curvature });
        }
        (*x, value, gradient) = (next, next_value, next_gradient);
    }
    Ok(value)
}

/// Minus the gradient times the estimated inverse of the Hessian.
fn downhill(gradient: &[f64], memory: &[Step]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let add = |to: &mut Vec<f64>, factor: f64, v: &[f64]| {
        to.iter_mut().zip(v).for_each(|(to, v)| *to += factor * v);
    };
    let mut factors = vec![];
    for step in memory.iter().rev() {
        let factor = step.scale * dot(&step.x, &direction);
        add(&mut direction, -factor, &step.gradient);
        factors.push(factor);
    }
    if let Some(last) = memory.last() {
        let size = 1. / (last.scale * dot(&last.gradient, &last.gradient));
        direction.iter_mut().for_each(|d| *d *= size);
    }
    for (step, factor) in memory.iter().zip(factors.into_iter().rev()) {
        let back = step.scale * dot(&step.gradient, &direction);
        add(&mut direction, factor - back, &step.x);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_minimum_of_a_narrow_valley() {
        // Rosenbrock's function: minimum 0 at (1, 1).
        let mut x = vec![-1.2, 1.];
        let mut calls = 0;
        let value = minimise(&mut x, Stop { steps: 100, gradient: 1e-9 }, |x| {
            calls += 1;
            let (a, b) = (1. - x[0], x[1] - x[0] * x[0]);
            Ok((a * a + 100. * b * b, vec![-2. * a - 400. * x[0] * b, 200. * b]))
        });
        assert!(value.unwrap() < 1e-15 && calls < 100, "{calls} calls");
        assert!(x.iter().all(|x| (x - 1.).abs() < 1e-7), "{x:?}");
    }

    #[test]
    fn stops_where_it_starts_at_the_minimum() {
        let mut x = vec![0.; 3];
        let mut calls = 0;
        let function = |x: &[f64]| {
            calls += 1;
            Ok((dot(x, x), x.iter().map(|x| 2. * x).collect()))
        };
        assert_eq!(minimise(&mut x, Stop { steps: 10, gradient: 0. }, function).unwrap(), 0.);
        assert_eq!((x, calls), (vec![0.; 3], 1));
    }
}
