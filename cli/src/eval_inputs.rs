//! What `eval` reads.

use std::collections::HashSet;

use crossmodal::align::{Correct, Split};
use crossmodal::io::{Features, Source, read_features, read_integers};

use crate::eval::{Args, Task};
use crate::failure::Failure;
use crate::inputs::check_same;

/// Features with a class a row.
pub(crate) struct Classed {
    pub(crate) features: Features,
    pub(crate) labels: Vec<i64>,
}

/// The parts that a classifier is trained on, chosen by and scored on.
pub(crate) struct Parts {
    /// The side: left or right.
    pub(crate) side: &'static str,
    pub(crate) train: Classed,
    pub(crate) validation: Classed,
    pub(crate) test: Classed,
}

/// Everything that `eval` scores.
pub(crate) struct Inputs {
    /// The rows that are scored.
    pub(crate) left: Features,
    pub(crate) right: Option<Features>,
    /// The ids of both sides' rows.
    ids: Option<[Vec<i64>; 2]>,
    /// The classes of the left rows.
    pub(crate) labels: Option<Vec<i64>>,
    pub(crate) prompts: Option<Classed>,
    /// Those of the left, and those of the right where it has the same classes; for cache, knn and probe.
    pub(crate) parts: Vec<Parts>,
}

impl Inputs {
    /// Reads and checks what the tasks need.
    pub(crate) fn read(args: &Args, tasks: &[Task]) -> Result<Inputs, Failure> {
        let left = read_features(&args.left)?;
        let right = args.right.as_ref().map(read_features).transpose()?;
        let compared = tasks.iter().any(|task| matches!(task, Task::Retrieval | Task::Geometry));
        let labels = read_for(&args.labels, (&args.left, left.rows))?;
        let split = read_for(&args.split, (&args.left, left.rows))?;
        let ids = match (&args.right, &right) {
            (Some(source), Some(right)) => {
                let ids = read_for(&args.left_ids, (&args.left, left.rows))?
                    .zip(read_for(&args.right_ids, (source, right.rows))?);
                if ids.is_none() {
                    check_same("rows", (&args.left, left.rows), (source, right.rows))?;
                }
                if compared {
                    check_same("columns", (&args.left, left.cols), (source, right.cols))?;
                }
                ids.map(|(left, right)| [left, right])
            }
            _ if args.left_ids.is_some() => return Err(Failure::new("--left-ids needs --right FILE")),
            _ => None,
        };
        let prompts = prompts(args, &left)?;
        let split = match (&args.split, split) {
            (Some(source), Some(numbers)) => {
                Some(Split::from_labels(&numbers).map_err(|error| split_error(source, error))?)
            }
            _ => None,
        };
        let parts = match (&labels, &split) {
            (Some(labels), Some(split)) if tasks.iter().any(|task| task.learns()) => {
                // Ids pair rows of different numbers, of which only the left have classes.
                let right = right.as_ref().filter(|_| ids.is_none()).map(|right| ("right", right));
                let sides = [("left", &left)].into_iter().chain(right);
                sides.map(|side| parts(side, labels, split)).collect::<Result<_, _>>()?
            }
            _ => vec![],
        };
        if let (Some(source), Some(labels), Some(prompts)) = (&args.labels, &labels, &prompts) {
            let used: Vec<u32> = match &split {
                None => (0..labels.len() as u32).collect(),
                Some(split) if tasks.contains(&Task::Cache) => {
                    [&split.train[..], &split.validation, &split.test].concat()
                }
                Some(split) => split.test.clone(),
            };
            check_prompts((source, labels), prompts, &used)?;
        }
        let all = Inputs { left, right, ids, labels, prompts, parts };
        match split {
            Some(split) => all.only(&split.test),
            None => Ok(all),
        }
    }

    /// Which right rows are correct.
    pub(crate) fn correct(&self) -> Correct<'_> {
        match &self.ids {
            Some([left, right]) => Correct::Ids { left, right },
            None => Correct::Pairs,
        }
    }

    /// The given left rows and their partners: the same rows, or those with one of their ids.
    fn only(self, rows: &[u32]) -> Result<Inputs, Failure> {
        let pick = |numbers: &[i64], rows: &[u32]| rows.iter().map(|&row| numbers[row as usize]).collect();
        let mut of_right = rows.to_vec();
        let ids = self.ids.map(|[left, right]| {
            let left: Vec<i64> = pick(&left, rows);
            let known: HashSet<_> = left.iter().collect();
            of_right =
                (0u32..).zip(&right).filter(|(_, id)| known.contains(id)).map(|(row, _)| row).collect();
            let right = pick(&right, &of_right);
            [left, right]
        });
        Ok(Inputs {
            left: self.left.select(rows)?,
            right: self.right.map(|right| right.select(&of_right)).transpose()?,
            ids,
            labels: self.labels.map(|labels| pick(&labels, rows)),
            ..self
        })
    }
}

/// Integers, one for each row of other features.
fn read_for(source: &Option<Source>, rows: (&Source, usize)) -> Result<Option<Vec<i64>>, Failure> {
    let Some(source) = source else { return Ok(None) };
    let numbers = read_integers(source)?;
    check_same("rows", rows, (source, numbers.len()))?;
    Ok(Some(numbers))
}

fn prompts(args: &Args, left: &Features) -> Result<Option<Classed>, Failure> {
    let Some(source) = &args.prompts else { return Ok(None) };
    let features = read_features(source)?;
    check_same("columns", (&args.left, left.cols), (source, features.cols))?;
    let labels = read_for(&args.prompt_labels, (source, features.rows))?.unwrap_or_default();
    Ok(Some(Classed { features, labels }))
}

fn parts(
    (side, features): (&'static str, &Features),
    labels: &[i64],
    split: &Split,
) -> Result<Parts, Failure> {
    let part = |rows: &[u32]| -> Result<Classed, Failure> {
        let labels = rows.iter().map(|&row| labels[row as usize]).collect();
        Ok(Classed { features: features.select(rows)?, labels })
    };
    let (train, validation, test) = (part(&split.train)?, part(&split.validation)?, part(&split.test)?);
    Ok(Parts { side, train, validation, test })
}

/// Refuses a row that prompts classify and whose class has none, by its number in the file.
fn split_error(source: &Source, error: crossmodal::Error) -> Failure {
    let crossmodal::Error::Argument { expected, got, .. } = error else { return error.into() };
    Failure::new(format!("--split {source}: expected {expected}, got {got}"))
}

fn check_prompts(
    (source, labels): (&Source, &[i64]),
    prompts: &Classed,
    rows: &[u32],
) -> Result<(), Failure> {
    let known: HashSet<_> = prompts.labels.iter().collect();
    let Some(&row) = rows.iter().find(|&&row| !known.contains(&labels[row as usize])) else { return Ok(()) };
    let class = labels[row as usize];
    Err(Failure::new(format!(
        "--labels {source}: expected classes that have a prompt, got class {class} of row {row} (--tasks without cache \
         asks for those of the test rows alone)"
    )))
}
