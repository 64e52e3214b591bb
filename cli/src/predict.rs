//! `crossmodal predict`: a trained fusion applied to new features.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crossmodal::fusion::{Presence, TokenCount};
use crossmodal::io::{Features, Source, write_npy};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::fusion_file::Fusion;
use crate::inputs::{self, check_same};
use crate::{output, present, target, token_inputs, words};

/// Applies a fusion and writes the probabilities, or values, as .npy
#[derive(clap::Args)]
#[command(override_usage = "crossmodal predict --model <FILE> --modality <NAME=FILE> --out <FILE>")]
pub(crate) struct Args {
    /// fusion.safetensors of a run of fuse
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Features by their modality; others are missing
    #[arg(long, required = true, value_name = "NAME=FILE", value_parser = inputs::named())]
    modality: Vec<(String, Source)>,
    /// 0 in rows without the modality, 1 in others
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    present: Vec<(String, Source)>,
    /// How many tokens of each row are there; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    lengths: Vec<(String, Source)>,
    /// The .npy file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file that is there
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Outcome {
    let out = args.out.display();
    if !args.out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy")) {
        return Err(Failure::new(format!("--out {out}: expected a file name that ends in .npy")));
    }
    let named = args.modality.iter().chain(&args.present).chain(&args.lengths);
    let sources = named.map(|(_, source)| source.path.as_path());
    target::check(&args.out, sources.chain([args.model.as_path()]), args.force)?;
    let model = Fusion::load(&args.device.open()?, &args.model).map_err(|error| {
        Failure::new(format!("--model {error}; expected fusion.safetensors of a run of fuse"))
    })?;
    let (names, mut inputs) = read(args, &model)?;
    let first = (&args.modality[0].1, inputs.rows);
    let mut present = present::read(&args.present, &names, first)?;
    let mut features = std::mem::take(&mut inputs.features);
    let mut there: Vec<Option<Arc<[bool]>>> = vec![];
    for (m, (name, _)) in model.modalities().iter().enumerate() {
        let own = present.iter_mut().find(|(own, _)| own == name).map(|(_, own)| std::mem::take(own));
        let mut own = if features[m].is_none() { Some(vec![false; inputs.rows]) } else { own };
        let is_pooled = features[m].is_some() && !model.takes_tokens(m);
        let count = if is_pooled { inputs.tokens[m].take() } else { None };
        if let (Some(count), Some(tokens)) = (count, &features[m]) {
            features[m] = Some(count.pooled(tokens));
            // Where there is no token there is no mean.
            let own = own.get_or_insert_with(|| vec![true; inputs.rows]);
            own.iter_mut().enumerate().for_each(|(row, there)| *there &= count.is_there(row, 0));
        }
        there.push(own.map(Into::into));
    }
    let presence = Presence::new(inputs.rows, there)?;
    let features: Vec<_> = features.iter().map(Option::as_ref).collect();
    let lengths: Vec<_> =
        inputs.tokens.iter().map(|own| own.as_ref().and_then(|own| own.lengths.as_deref())).collect();
    let told = model.predict(&features, &lengths, &presence)?;
    write_npy(&args.out, told.rows, told.cols, &told.values)?;
    let what = match model.class_words() {
        Some(classes) => format!("probabilities of the classes {}", classes.join(",\n")),
        None => "values".to_string(),
    };
    // Lines break between names, not within.
    let text = format!("{out}: {} rows, {what}", told.rows).replace(' ', "\u{a0}").replace('\n', " ");
    output::print(&words::wrapped(&text, 80).join("\n").replace('\u{a0}', " "))?;
    Ok(ExitCode::SUCCESS)
}

/// What is given of each modality of a model, none where nothing is.
struct Inputs {
    features: Vec<Option<Features>>,
    /// The tokens that the features are; none where they are vectors.
    tokens: Vec<Option<TokenCount>>,
    rows: usize,
}

/// What is given, and the names of the modalities that have some.
fn read<'a>(args: &'a Args, model: &Fusion) -> Result<(Vec<&'a str>, Inputs), Failure> {
    let modalities = model.modalities();
    let mut features: Vec<Option<Features>> = vec![None; modalities.len()];
    let mut lengths = vec![None; modalities.len()];
    let (_, first) = &args.modality[0];
    let mut rows = None;
    for (name, source) in &args.modality {
        let Some(at) = modalities.iter().position(|(own, _)| own == name) else {
            let names: Vec<_> = modalities.iter().map(|(name, _)| name.as_str()).collect();
            let expected = names.join(", ");
            return Err(Failure::new(format!("--modality {name}: expected one of {expected}")));
        };
        if features[at].is_some() {
            return Err(Failure::new(format!("--modality {name}: it is given twice")));
        }
        let (own, length) = token_inputs::read(source)?;
        check_same("rows", (first, *rows.get_or_insert(own.rows)), (source, own.rows))?;
        let (width, got) = (modalities[at].1, own.cols / length.unwrap_or(1));
        if got != width {
            let model = args.model.display();
            return Err(Failure::new(format!(
                "{source}: expected {width} columns, as modality {name} of {model} takes, got {got}"
            )));
        }
        (features[at], lengths[at]) = (Some(own), length);
    }
    // clap has seen to it that there is one.
    let rows = rows.unwrap_or_default();
    let named: Vec<_> =
        modalities.iter().zip(&lengths).map(|((name, _), own)| (name.as_str(), *own)).collect();
    let tokens = token_inputs::counts(&args.lengths, &named, (first, rows))?;
    let given = args.modality.iter().map(|(name, _)| name.as_str()).collect();
    Ok((given, Inputs { features, tokens, rows }))
}
