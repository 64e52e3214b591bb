//! What `fuse` can do with modalities, and how well it does.

use crossmodal::Device;
use crossmodal::Result;
use crossmodal::evaluate::Probe;
use crossmodal::fusion::{
    Ballots, ClassScores, Experts, FusionData, FusionKind, FusionModel, FusionRecipe, FusionReport,
    FusionTrainer, LateModel, LateRule, Presence, Target, ValueScores, greedy_selection,
};
use crossmodal::io::Features;

use crate::fusion_file::Fusion;

/// Parts of the training rows that are left to experts that have not seen them.
const FOLDS: usize = 5;
/// Experts of a greedy ensemble.
const ROUNDS: usize = 20;

/// A fusion. Weights are one a modality; none: equal.
pub(crate) enum Way {
    Trained(FusionKind),
    Mean(Option<Vec<f64>>),
    LearnedMean,
    Maximum,
    Vote(Option<Vec<f64>>),
    Product {
        weights: Option<Vec<f64>>,
        /// Whether the class frequencies, which every expert has seen, count once only.
        prior: bool,
    },
    Stacking,
    Greedy,
}

/// How well a fusion does.
pub(crate) struct Fused {
    pub(crate) name: String,
    /// Accuracy, or R², on the validation rows, in percent.
    pub(crate) validation: f64,
    pub(crate) test: Scores,
    /// What `predict` applies.
    pub(crate) model: Fusion,
    /// How a fusion that trains did, and its epochs.
    pub(crate) recipe: Option<FusionRecipe>,
    pub(crate) log: Vec<FusionReport>,
}

/// How well the test rows are told.
pub(crate) enum Scores {
    Classes(ClassScores),
    /// With what is told of each.
    Values(ValueScores, Vec<f32>),
}

/// Experts and what they say of the rows of each part, made once for all late fusions.
pub(crate) struct Said {
    experts: Experts,
    validation: Vec<Features>,
    test: Vec<Features>,
    unseen: Vec<Features>,
}

fn numbers(data: &FusionData, rows: &[u32]) -> Vec<u32> {
    match &data.target {
        Target::Classes { numbers, .. } => rows.iter().map(|&row| numbers[row as usize]).collect(),
        Target::Values(_) => vec![],
    }
}

fn scored(data: &FusionData, p: &Features, rows: &[u32]) -> Result<ClassScores> {
    let all = Presence::all(p.rows, 1);
    let found = Ballots { experts: &[&p.values], classes: p.cols, presence: &all }.soft(&[1.])?;
    ClassScores::new(&found, &numbers(data, rows), p.cols)
}

/// One modality alone: by a logistic regression, or for numbers by the fusion that the recipe has, of one.
pub(crate) fn single(device: &Device, data: &FusionData, recipe: &FusionRecipe, m: usize) -> Result<Fused> {
    let own = data.modalities[m].clone();
    let name = format!("{} alone", own.name);
    let (tokens, present) = (data.tokens[m].clone(), data.present[m].clone());
    let mut data = FusionData::new(vec![own], data.target.clone(), data.split.clone())?;
    (data.tokens, data.present) = (vec![tokens], vec![present]);
    if let Target::Values(_) = data.target {
        let fused = trained(device, &data, recipe, &|_| {})?;
        return Ok(Fused { name, ..fused });
    }
    let data = data.pooled();
    let experts = Experts::fit(device, &data, &Probe::default())?;
    let of = |rows: &[u32]| scored(&data, &experts.probabilities(device, &data, rows)?[0], rows);
    let (validation, test) = (of(&data.split.validation)?.accuracy, of(&data.split.test)?);
    // A mean of one: what it says.
    let model = LateModel::new(device, &data.modalities, experts, LateRule::Mean(vec![1.]))?;
    let (test, model) = (Scores::Classes(test), Fusion::Late(model));
    Ok(Fused { name, validation, test, model, recipe: None, log: vec![] })
}

/// Learns a late fusion and scores it. `said` is made by the first that needs it.
pub(crate) fn way(
    device: &Device,
    data: &FusionData,
    seed: u64,
    way: &Way,
    said: &mut Option<Said>,
) -> Result<Fused> {
    let data = &data.pooled();
    if said.is_none() {
        let experts = Experts::fit(device, data, &Probe::default())?;
        let folds = FOLDS.min(data.split.train.len());
        *said = Some(Said {
            validation: experts.probabilities(device, data, &data.split.validation)?,
            test: experts.probabilities(device, data, &data.split.test)?,
            unseen: experts.out_of_fold(device, data, folds, seed)?,
            experts,
        });
    }
    let said = said.as_ref().expect("it has just been made");
    let rule = rule(device, data, way, said)?;
    let of =
        |p: &[Features], rows: &[u32]| scored(data, &rule.combine(device, p, &data.presence(rows)?)?, rows);
    let validation = of(&said.validation, &data.split.validation)?.accuracy;
    let test = Scores::Classes(of(&said.test, &data.split.test)?);
    let model = Fusion::Late(LateModel::new(device, &data.modalities, said.experts.clone(), rule)?);
    Ok(Fused { name: String::new(), validation, test, model, recipe: None, log: vec![] })
}

/// Trains a fusion and scores it; `tell` is told of every epoch.
pub(crate) fn trained(
    device: &Device,
    data: &FusionData,
    recipe: &FusionRecipe,
    tell: &dyn Fn(&FusionReport),
) -> Result<Fused> {
    let mut trainer = FusionTrainer::new(device, data, recipe)?;
    let mut log = vec![];
    while !trainer.is_done() {
        log.push(trainer.epoch()?);
        log.last().into_iter().for_each(tell);
    }
    let model = trainer.best()?;
    let test = match &data.target {
        Target::Classes { .. } => Scores::Classes(trainer.test(&model, &data.split.test)?),
        Target::Values(values) => values_told(data, &model, values)?,
    };
    let validation = log.iter().map(|report| report.validation).fold(f64::MIN, f64::max);
    Ok(Fused {
        name: String::new(),
        validation,
        test,
        model: Fusion::Trained(model),
        recipe: Some(*recipe),
        log,
    })
}

/// The scores of the numbers that a model tells of the test rows.
fn values_told(data: &FusionData, model: &FusionModel, values: &[f32]) -> Result<Scores> {
    let rows = &data.split.test;
    let selected = data.modalities.iter().map(|own| own.features.select(rows));
    let selected = selected.collect::<Result<Vec<_>>>()?;
    let features: Vec<_> = selected.iter().map(Some).collect();
    let lengths = data.lengths(rows);
    let lengths: Vec<_> = lengths.iter().map(Option::as_deref).collect();
    let told = model.predict_tokens(&features, &lengths, &data.presence(rows)?)?.values;
    let values: Vec<_> = rows.iter().map(|&row| values[row as usize]).collect();
    Ok(Scores::Values(ValueScores::new(&told, &values)?, told))
}

fn rule(device: &Device, data: &FusionData, way: &Way, said: &Said) -> Result<LateRule> {
    let count = data.modalities.len();
    let or_equal = |weights: &Option<Vec<f64>>| weights.clone().unwrap_or_else(|| vec![1.; count]);
    let (train, validation) = (&data.split.train, &data.split.validation);
    let (of_train, of_validation) = (numbers(data, train), numbers(data, validation));
    Ok(match way {
        Way::LearnedMean => LateRule::learned_mean(&said.unseen, &of_train, &data.presence(train)?)?,
        Way::Maximum => LateRule::Maximum,
        Way::Vote(weights) => LateRule::HardVote(or_equal(weights)),
        Way::Product { weights, prior } => {
            let prior = prior.then(|| frequencies(&of_train, said.experts.labels.len()));
            LateRule::Product { weights: or_equal(weights), prior }
        }
        Way::Stacking => LateRule::stacking(
            device,
            (&said.unseen, &of_train, &data.presence(train)?),
            (&said.validation, &of_validation, &data.presence(validation)?),
        )?,
        Way::Greedy => {
            let slices: Vec<&[f32]> = said.validation.iter().map(|own| &own.values[..]).collect();
            let (cols, presence) = (said.validation[0].cols, data.presence(validation)?);
            LateRule::Mean(greedy_selection(&slices, cols, &of_validation, ROUNDS, &presence)?)
        }
        Way::Mean(weights) => LateRule::Mean(or_equal(weights)),
        Way::Trained(_) => unreachable!("it has no rule"),
    })
}

/// How often each class is, as if there were one sample more of each: none is 0.
fn frequencies(classes: &[u32], count: usize) -> Vec<f64> {
    let mut all = vec![1.; count];
    classes.iter().for_each(|&class| all[class as usize] += 1.);
    let sum: f64 = all.iter().sum();
    all.iter().map(|own| own / sum).collect()
}
