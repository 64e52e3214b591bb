//! `crossmodal predict`: a trained fusion applied to new features.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crossmodal::fusion::Presence;
use crossmodal::io::{Features, Source, read_features, write_npy};

use crate::device::DeviceArgs;
use crate::failure::{Failure, Outcome};
use crate::fusion_file::Fusion;
use crate::inputs::{self, check_same};
use crate::{output, present, target, words};

/// Applies a trained fusion and writes the probabilities as .npy
#[derive(clap::Args)]
#[command(override_usage = "crossmodal predict --model <FILE> --modality <NAME=FILE> --out <FILE>")]
pub(crate) struct Args {
    /// fusion.safetensors of a run of fuse
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Features by their modality; others are missing
    #[arg(long, required = true, value_name = "NAME=FILE", value_parser = inputs::named())]
    modality: Vec<(String, Source)>,
    /// 0 in rows without the modality, else 1; again: more
    #[arg(long, value_name = "NAME=FILE", value_parser = inputs::named())]
    present: Vec<(String, Source)>,
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
    let sources = args.modality.iter().chain(&args.present).map(|(_, source)| source.path.as_path());
    target::check(&args.out, sources.chain([args.model.as_path()]), args.force)?;
    let model = Fusion::load(&args.device.open()?, &args.model).map_err(|error| {
        Failure::new(format!("--model {error}; expected fusion.safetensors of a run of fuse"))
    })?;
    let modalities = model.modalities();
    let (features, rows) = read(args, &modalities)?;
    let given: Vec<_> = args.modality.iter().map(|(name, _)| name.as_str()).collect();
    let mut present = present::read(&args.present, &given, (&args.modality[0].1, rows))?;
    let there = |((name, _), features): (&(String, usize), &Option<Features>)| -> Option<Arc<[bool]>> {
        match (features, present.iter_mut().find(|(own, _)| own == name)) {
            (None, _) => Some(vec![false; rows].into()),
            (Some(_), Some((_, own))) => Some(std::mem::take(own).into()),
            (Some(_), None) => None,
        }
    };
    let presence = Presence::new(rows, modalities.iter().zip(&features).map(there).collect())?;
    let told = model.predict_with(&features.iter().map(Option::as_ref).collect::<Vec<_>>(), &presence)?;
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

/// The features of each modality of the model, none where they are not given, and how many rows they have.
fn read(args: &Args, modalities: &[(String, usize)]) -> Result<(Vec<Option<Features>>, usize), Failure> {
    let mut features: Vec<Option<Features>> = vec![None; modalities.len()];
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
        let own = read_features(source)?;
        check_same("rows", (first, *rows.get_or_insert(own.rows)), (source, own.rows))?;
        let inputs = modalities[at].1;
        if own.cols != inputs {
            return Err(Failure::new(format!(
                "{source}: expected {inputs} columns, as modality {name} of {} takes, got {}",
                args.model.display(),
                own.cols
            )));
        }
        features[at] = Some(own);
    }
    // clap has seen to it that there is one.
    Ok((features, rows.unwrap_or_default()))
}
