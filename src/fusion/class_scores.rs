//! How well a classifier does, class by class.

use crate::error::{Error, Result};

/// Scores of one class, in percent but for the count. Example: [`ClassScores`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ClassScore {
    /// Of what was taken for the class, how much is; 0 where nothing was.
    pub precision: f64,
    /// Of what is of the class, how much was taken for it; 0 where nothing is.
    pub recall: f64,
    /// Their harmonic mean; 0 where both are.
    pub f1: f64,
    /// How many samples are of the class.
    pub support: usize,
}

/// Scores of a classifier.
///
/// ```
/// use crossmodal::fusion::ClassScores;
/// let scores = ClassScores::new(&[0, 1, 1, 1], &[0, 0, 1, 1], 3)?;
/// assert_eq!((scores.accuracy, scores.confusion[0][1]), (75., 1));
/// assert_eq!((scores.classes[0].precision, scores.classes[0].recall), (100., 50.));
/// assert!((scores.macro_f1 - 100. * (2. / 3. + 0.8) / 2.).abs() < 1e-9); // class 2 neither is nor was seen
/// # Ok::<(), crossmodal::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ClassScores {
    /// Samples whose class was found, in percent.
    pub accuracy: f64,
    /// The mean F1 over the classes that are there or were taken to be.
    pub macro_f1: f64,
    /// One a class.
    pub classes: Vec<ClassScore>,
    /// Row: the class; column: what it was taken for.
    pub confusion: Vec<Vec<u32>>,
}

impl ClassScores {
    /// Of class numbers found and true ones. Errors: no samples; not as many of both; a number that is no class. Example:
    /// [`ClassScores`].
    pub fn new(found: &[u32], labels: &[u32], classes: usize) -> Result<ClassScores> {
        if labels.is_empty() || found.len() != labels.len() {
            let expected = format!("{} classes, one for each label, and at least one", labels.len());
            return Err(Error::argument("ClassScores", "found", expected, found.len()));
        }
        if let Some(wrong) = found.iter().chain(labels).find(|&&class| class as usize >= classes) {
            return Err(Error::argument("ClassScores", "labels", format!("classes below {classes}"), wrong));
        }
        let mut confusion = vec![vec![0u32; classes]; classes];
        for (&found, &label) in found.iter().zip(labels) {
            confusion[label as usize][found as usize] += 1;
        }
        let percent = |part: u32, of: u32| if of == 0 { 0. } else { 100. * f64::from(part) / f64::from(of) };
        let column = |class: usize| confusion.iter().map(|row| row[class]).sum::<u32>();
        let score = |class: usize| {
            let (right, is, taken) = (confusion[class][class], confusion[class].iter().sum(), column(class));
            ClassScore {
                precision: percent(right, taken),
                recall: percent(right, is),
                f1: percent(2 * right, is + taken),
                support: is as usize,
            }
        };
        let all: Vec<_> = (0..classes).map(score).collect();
        let seen: Vec<_> =
            (0..classes).filter(|&class| all[class].support > 0 || column(class) > 0).collect();
        let right: u32 = (0..classes).map(|class| confusion[class][class]).sum();
        Ok(ClassScores {
            accuracy: percent(right, labels.len() as u32),
            macro_f1: seen.iter().map(|&class| all[class].f1).sum::<f64>() / seen.len() as f64,
            classes: all,
            confusion,
        })
    }
}
