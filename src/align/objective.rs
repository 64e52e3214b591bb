//! What training makes small.

use crate::autograd::{Tape, Var};
use crate::error::{Error, Result};
use crate::losses::{self, Distance, Mining, Queue, TripletOptions, VicRegOptions};
use crate::ops::binary::BINARY;
use crate::ops::concat::CONCAT;
use crate::ops::gather::GATHER;
use crate::ops::info_nce::INFO_NCE;
use crate::ops::siglip::SIGLIP;
use crate::ops::unary::UNARY;
use crate::ops::{Binary, Indices, InfoNceOptions, Reduction, SiglipOptions, Targets, Unary};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

/// Bytes of scratch for a block of similarities: a batch of 2048 pairs keeps them for its backward.
const SCRATCH: usize = 16 << 20;

/// The loss of a batch, between the embeddings of two modalities. Where rows have classes, rows of one class are positives.
///
/// ```
/// use crossmodal::align::Objective;
/// let smooth = Objective::InfoNce { smoothing: 0.1, decoupled: false, hard_negatives: 0., queue: 0, enqueue_first: false };
/// assert_eq!(smooth.to_string().parse(), Ok(smooth));
/// assert!("infonse".parse::<Objective>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Objective {
    /// Symmetric [`info_nce`](crate::ops::info_nce()).
    InfoNce {
        /// Label smoothing.
        smoothing: f64,
        /// Positives are left out of the denominator.
        decoupled: bool,
        /// The weight of hard negatives.
        hard_negatives: f64,
        /// Keys of earlier batches, of either side, that are further columns without a gradient; 0 for none. Those of a row's
        /// own class, and its partner's earlier ones, are positives, the others negatives.
        queue: usize,
        /// The batch's keys are put into the queue before the loss, whose columns are the queue alone (cross-batch memory, Wang
        /// et al., 2020); else behind it, and the loss's columns are the batch's keys and those of earlier batches (MoCo).
        enqueue_first: bool,
    },
    /// [`siglip`](crate::ops::siglip()), its bias learned from −10 on.
    Siglip,
    /// [`sup_con`](crate::losses::sup_con) of both sides' rows as one set.
    SupCon,
    /// [`triplet`](crate::losses::triplet) with mined triplets, both ways.
    Triplet {
        /// How far apart.
        distance: Distance,
        /// How much farther a negative must be.
        margin: f64,
        /// `softplus` in the place of the hinge.
        softplus: bool,
        /// The negative's distance from the positive counts too.
        swap: bool,
        /// The nearest negative that is farther than the positive, not the nearest of all.
        semi_hard: bool,
    },
    /// [`cosine`](crate::losses::cosine()) of the pairs: nothing keeps the others apart.
    Cosine,
    /// [`vicreg`](crate::losses::vicreg()), on embeddings as they are before they are scaled to length one.
    VicReg,
    /// [`barlow_twins`](crate::losses::barlow_twins), likewise.
    BarlowTwins,
}

impl Default for Objective {
    fn default() -> Self {
        Objective::InfoNce {
            smoothing: 0.,
            decoupled: false,
            hard_negatives: 0.,
            queue: 0,
            enqueue_first: false,
        }
    }
}

impl std::fmt::Display for Objective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Objective::InfoNce { smoothing, decoupled, hard_negatives, queue, enqueue_first } => {
                write!(
                    f,
                    "infonce smoothing={smoothing} decoupled={decoupled} hard_negatives={hard_negatives} "
                )?;
                write!(f, "queue={queue} enqueue_first={enqueue_first}")
            }
            Objective::Siglip => write!(f, "siglip"),
            Objective::SupCon => write!(f, "supcon"),
            Objective::Triplet { distance, margin, softplus, swap, semi_hard } => {
                let distance = match distance {
                    Distance::Euclidean => "euclidean",
                    Distance::SquaredEuclidean => "squared",
                    Distance::Cosine => "cosine",
                };
                write!(
                    f,
                    "triplet distance={distance} margin={margin} softplus={softplus} swap={swap} semi_hard={semi_hard}"
                )
            }
            Objective::Cosine => write!(f, "cosine"),
            Objective::VicReg => write!(f, "vicreg"),
            Objective::BarlowTwins => write!(f, "barlow"),
        }
    }
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut words = text.split(' ');
        let name = words.next().unwrap_or_default();
        let options: HashMap<_, _> = words.filter_map(|word| word.split_once('=')).collect();
        fn option<T: FromStr>(options: &HashMap<&str, &str>, name: &str) -> Option<T> {
            options.get(name)?.parse().ok()
        }
        let parsed = || {
            Some(match name {
                "infonce" => Objective::InfoNce {
                    smoothing: option(&options, "smoothing")?,
                    decoupled: option(&options, "decoupled")?,
                    hard_negatives: option(&options, "hard_negatives")?,
                    queue: option(&options, "queue")?,
                    enqueue_first: option(&options, "enqueue_first")?,
                },
                "siglip" => Objective::Siglip,
                "supcon" => Objective::SupCon,
                "triplet" => Objective::Triplet {
                    distance: match *options.get("distance")? {
                        "euclidean" => Distance::Euclidean,
                        "squared" => Distance::SquaredEuclidean,
                        "cosine" => Distance::Cosine,
                        _ => return None,
                    },
                    margin: option(&options, "margin")?,
                    softplus: option(&options, "softplus")?,
                    swap: option(&options, "swap")?,
                    semi_hard: option(&options, "semi_hard")?,
                },
                "cosine" => Objective::Cosine,
                "vicreg" => Objective::VicReg,
                "barlow" => Objective::BarlowTwins,
                _ => return None,
            })
        };
        parsed().ok_or_else(|| format!("expected a loss with its options, got {text}"))
    }
}

/// What a loss takes besides the embeddings.
pub(super) struct Terms<'a> {
    pub(super) log_scale: &'a Var,
    pub(super) bias: Option<&'a Var>,
    /// The class of each row of both sides' embeddings, of which there may be several views.
    pub(super) classes: [Arc<[i64]>; 2],
    /// Whether column i is the one positive of row i.
    pub(super) diagonal: bool,
    /// Rows of a view.
    pub(super) rows: usize,
    pub(super) queues: Option<(&'a Queue, &'a Queue)>,
    /// Whether this batch's keys are in the queues.
    pub(super) enqueued_first: bool,
}

impl Terms<'_> {
    fn targets(&self) -> Targets {
        let [rows, cols] = self.classes.clone();
        if self.diagonal { Targets::Diagonal } else { Targets::Classes { rows, cols } }
    }
}

impl Objective {
    /// Its name without its options, as the command line has it.
    ///
    /// ```
    /// assert_eq!(crossmodal::align::Objective::BarlowTwins.name(), "barlow");
    /// ```
    pub fn name(&self) -> String {
        self.to_string().split(' ').next().unwrap_or_default().to_string()
    }

    /// Whether it looks at directions only.
    pub(super) fn unit(&self) -> bool {
        !matches!(self, Objective::VicReg | Objective::BarlowTwins)
    }

    /// The size of the queues, 0 for none.
    pub(super) fn queue(&self) -> usize {
        if let Objective::InfoNce { queue, .. } = self { *queue } else { 0 }
    }

    /// Whether the keys of a batch are in the queue when its loss is computed.
    pub(super) fn enqueues_first(&self) -> bool {
        matches!(self, Objective::InfoNce { queue: 1.., enqueue_first: true, .. })
    }

    /// Refuses options that a loss does not take.
    pub(super) fn check(&self, batch_size: usize, train: usize, views: usize) -> Result<()> {
        let refuse =
            |argument, expected: &str, got: String| Err(Error::argument("align", argument, expected, got));
        match *self {
            Objective::InfoNce { smoothing, decoupled, hard_negatives, queue, enqueue_first } => {
                if enqueue_first && queue == 0 {
                    return refuse("queue", "at least a batch, to be enqueued before the loss", "0".into());
                }
                if !(0. ..1.).contains(&smoothing) {
                    return refuse("smoothing", "0 to less than 1", format!("{smoothing:?}"));
                }
                if decoupled && smoothing > 0. {
                    let expected = "0 with the decoupled loss, which leaves the positives out";
                    return refuse("smoothing", expected, format!("{smoothing:?}"));
                }
                if !(0. ..=1e6).contains(&hard_negatives) {
                    return refuse("hard negatives", "0 to 1e6", format!("{hard_negatives:?}"));
                }
                if queue.saturating_add(batch_size) > train {
                    let expected =
                        format!("at most {}: the training rows but for a batch", train - batch_size);
                    return refuse("queue", &expected, queue.to_string());
                }
                if queue > 0 && queue < batch_size {
                    return refuse("queue", "0 or at least a batch", queue.to_string());
                }
                let keys = batch_size * views;
                if enqueue_first && queue < keys {
                    let expected = format!(
                        "at least the {keys} keys of a batch with all its views, enqueued before the loss"
                    );
                    return refuse("queue", &expected, queue.to_string());
                }
                Ok(())
            }
            Objective::Triplet { margin, .. } if !(margin >= 0. && margin.is_finite()) => {
                refuse("margin", "a finite number of at least 0", format!("{margin:?}"))
            }
            _ => Ok(()),
        }
    }

    /// The loss of a batch, a scalar. Row i of each view of x is a partner of row i of each view of y.
    pub(super) fn loss(&self, tape: &Tape, x: &Var, y: &Var, terms: &Terms<'_>) -> Result<Var> {
        match *self {
            Objective::InfoNce { smoothing, decoupled, hard_negatives, .. } => {
                let options = InfoNceOptions {
                    targets: terms.targets(),
                    smoothing,
                    decoupled,
                    hard_negatives,
                    scratch_bytes: SCRATCH,
                    ..InfoNceOptions::default()
                };
                info_nce(tape, x, y, terms, options)
            }
            Objective::Siglip => {
                let options =
                    SiglipOptions { targets: terms.targets(), scratch_bytes: SCRATCH, ..Default::default() };
                let bias = terms.bias.ok_or_else(|| Error::argument("align", "bias", "one", "none"))?;
                tape.apply(&SIGLIP, options, &[x, y, terms.log_scale, bias])
            }
            Objective::SupCon => {
                let z = tape.apply(&CONCAT, 0, &[x, y])?;
                let labels = terms.classes.concat();
                losses::sup_con(tape, &z, terms.log_scale, &labels, Reduction::Mean, SCRATCH)
            }
            Objective::Triplet { distance, margin, softplus, swap, semi_hard } => {
                let mining = if semi_hard { Mining::SemiHard { margin } } else { Mining::BatchHard };
                let options = TripletOptions { distance, margin, softplus, swap, reduction: Reduction::Mean };
                let [rows, cols] = &terms.classes;
                let one_way = |a: &Var, b: &Var, of_a: &[i64], of_b: &[i64]| {
                    let mined = losses::mine(a.value(), b.value(), of_a, of_b, false, distance, mining)?;
                    losses::triplet(tape, a, b, &mined, &options)
                };
                let (there, back) = (one_way(x, y, rows, cols)?, one_way(y, x, cols, rows)?);
                let sum = tape.apply(&BINARY, Binary::Add, &[&there, &back])?;
                tape.apply(&UNARY, Unary::Scale(0.5), &[&sum])
            }
            Objective::Cosine | Objective::VicReg | Objective::BarlowTwins => {
                let (x, y) = partners(tape, x, y, terms.rows)?;
                match self {
                    Objective::Cosine => losses::cosine(tape, &x, &y, Reduction::Mean),
                    Objective::VicReg => losses::vicreg(tape, &x, &y, &VicRegOptions::default()),
                    _ => losses::barlow_twins(tape, &x, &y, 0.0051),
                }
            }
        }
    }
}

/// x and y so that row i of one is a partner of row i of the other: every view of one with every view of the other.
fn partners(tape: &Tape, x: &Var, y: &Var, rows: usize) -> Result<(Var, Var)> {
    let views = |v: &Var| v.value().shape()[0] / rows.max(1);
    let (of_x, of_y) = (views(x), views(y));
    let tiled = |v: &Var, others: usize| match others {
        0 | 1 => Ok(v.clone()),
        others => tape.apply(&CONCAT, 0, &vec![v; others]),
    };
    // y as a whole for every view of x: of x each view as often in a row.
    let x = match of_x {
        0 | 1 => tiled(x, of_y)?,
        _ if of_y < 2 => x.clone(),
        _ => {
            let order: Vec<_> =
                (0..of_x * of_y * rows).map(|at| (at / (of_y * rows) * rows + at % rows) as u32).collect();
            tape.apply(&GATHER, Indices::new(x.value().device(), &order)?, &[x])?
        }
    };
    Ok((x, tiled(y, of_x)?))
}

fn info_nce(tape: &Tape, x: &Var, y: &Var, terms: &Terms<'_>, options: InfoNceOptions) -> Result<Var> {
    let Some((of_x, of_y)) = terms.queues.filter(|(queue, _)| !queue.is_empty()) else {
        return tape.apply(&INFO_NCE, options, &[x, y, terms.log_scale]);
    };
    let [rows, cols] = &terms.classes;
    let first = terms.enqueued_first;
    // One way at a time: no earlier key is compared with an earlier key.
    let one_way = |a: &Var, b: &Var, queue: &Queue, of_a: &Arc<[i64]>, of_b: &Arc<[i64]>| {
        let earlier = tape.constant(&queue.keys()?);
        let (b, of_b) = if first {
            (earlier, queue.classes().into())
        } else {
            let of_b = of_b.iter().copied().chain(queue.classes()).collect();
            (tape.apply(&CONCAT, 0, &[b, &earlier])?, of_b)
        };
        let targets = Targets::Classes { rows: of_a.clone(), cols: of_b };
        let options = InfoNceOptions { targets, symmetric: false, ..options.clone() };
        tape.apply(&INFO_NCE, options, &[a, &b, terms.log_scale])
    };
    let (there, back) = (one_way(x, y, of_y, rows, cols)?, one_way(y, x, of_x, cols, rows)?);
    let sum = tape.apply(&BINARY, Binary::Add, &[&there, &back])?;
    tape.apply(&UNARY, Unary::Scale(0.5), &[&sum])
}
