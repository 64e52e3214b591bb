//! The main job.

use std::path::MAIN_SEPARATOR;
use std::process::Stdio;

use crossmodal::align::Heads;
use crossmodal::io::{Source, read_features};

use crate::{FILES, Place, names};

#[test]
fn a_run_leaves_everything_and_the_next_takes_the_next_folder() {
    let place = Place::new();
    let output = place.run(&place.align("--seed 3"));
    let (table, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success() && log.is_empty(), "{log}");
    let folder = format!("runs{MAIN_SEPARATOR}align-1");
    assert!(
        table.contains("left to right") && table.contains("chance") && table.contains(&folder),
        "{table}"
    );
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    assert_eq!(names(&place.path("runs/align-1")), FILES);

    let metrics = place.json("runs/align-1/metrics.json");
    for direction in ["left_to_right", "right_to_left"] {
        for score in ["R@1", "R@5", "R@10"] {
            let percent = metrics[format!("{direction}_{score}")].as_f64().unwrap();
            assert!((0. ..=100.).contains(&percent));
        }
        for rank in ["median_rank", "mean_rank"] {
            assert!(metrics[format!("{direction}_{rank}")].as_f64().unwrap() >= 1.);
        }
    }
    for (key, value) in
        [("seed", 3), ("epochs", 4), ("train_rows", 40), ("validation_rows", 10), ("test_rows", 10)]
    {
        assert_eq!(metrics[key], value, "{key}");
    }
    assert_eq!((&metrics["device"], &metrics["modalities"]["left"][0]), (&"cpu".into(), &"left.npy".into()));
    assert!(metrics["seconds"].as_f64() > metrics["seconds_per_epoch"].as_f64());
    assert!((1..=4).contains(&metrics["best_epoch"].as_u64().unwrap()));
    assert_eq!(place.epochs("runs/align-1"), [1, 2, 3, 4]);

    place.succeed(&place.align("--seed 3"));
    let heads = |n: u32| place.bytes(&format!("runs/align-{n}/heads.safetensors"));
    assert!(heads(1) == heads(2), "the same seed gives the same bytes");
    place.succeed(&place.align("--seed 4"));
    assert_eq!(names(&place.path("runs")), ["align-1", "align-2", "align-3"]);
    assert!(heads(1) != heads(3));
}

#[test]
fn the_written_rows_are_the_projected_test_rows() {
    let place = Place::new();
    place.succeed(&place.align("--out run"));
    let heads = Heads::load(&place.path("run/heads.safetensors")).unwrap();
    let sizes: Vec<_> = heads.heads.iter().map(|head| (head.inputs, head.dim)).collect();
    assert_eq!(sizes, [(6, 4), (5, 4)]);
    assert_eq!(heads.of("right").unwrap().source, "pair.safetensors#right");
    place.succeed("project --heads run/heads.safetensors --left left.npy --out all.npy --device cpu");
    let read = |name: &str| read_features(&Source::parse(&place.path(name).display().to_string())).unwrap();
    let test: Vec<u32> = (0..60).filter(|row| row % 6 == 5).collect();
    let (all, left) = (read("all.npy").select(&test).unwrap(), read("run/left.npy"));
    assert_eq!((left.rows, left.cols), (10, 4));
    let close = all.values.iter().zip(&left.values).all(|(a, b)| (a - b).abs() < 1e-6);
    assert!(close, "{all:?} {left:?}");
    // And their scores are those of the run.
    let scores: serde_json::Value =
        serde_json::from_str(&place.succeed("eval --left run/left.npy --right run/right.npy --json"))
            .unwrap();
    assert_eq!(scores["left_to_right_mean_rank"], place.json("run/metrics.json")["left_to_right_mean_rank"]);
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let place = Place::new();
    place.succeed(&place.align("--out whole"));
    place.succeed(&place.align("--out parts --stop-after 2"));
    assert_eq!(names(&place.path("parts")), ["checkpoint.safetensors", "log.jsonl"]);
    // As if killed in the fourth epoch, after the journal's line of the third and before its checkpoint.
    let mut journal = place.bytes("parts/log.jsonl");
    journal.extend_from_slice(b"{\"epoch\":3,\"loss\":1.0}\n{\"epoch\":4,\"lo");
    std::fs::write(place.path("parts/log.jsonl"), journal).unwrap();
    place.succeed(&place.align("--out parts --resume"));
    for name in ["heads.safetensors", "left.npy", "right.npy", "checkpoint.safetensors"] {
        assert!(place.bytes(&format!("whole/{name}")) == place.bytes(&format!("parts/{name}")), "{name}");
    }
    assert_eq!(place.epochs("parts"), [1, 2, 3, 4]);
}

#[test]
fn a_run_that_diverges_says_what_is_left_of_it() {
    let place = Place::new();
    place.refuse(&place.align("--out run --lr 1e4"), &["finite", "learning rate", "run keeps the"]);
    assert_eq!(names(&place.path("run")), ["checkpoint.safetensors", "log.jsonl"]);
    // The only step of an epoch may be the one that goes wrong.
    let line = place.align("--out one --lr 1e39").replace("--batch-size 8", "--batch-size 40");
    place.refuse(&line, &["finite", "learning rate"]);
    assert!(!place.path("one").exists());
}

#[test]
fn a_resumed_run_needs_no_flags() {
    let place = Place::new();
    place.succeed(&place.align("--out whole --seed 7 --lr 0.01"));
    place.succeed(&place.align("--out parts --seed 7 --lr 0.01 --stop-after 2"));
    place.succeed("align --out parts --resume --device cpu");
    assert!(place.bytes("whole/heads.safetensors") == place.bytes("parts/heads.safetensors"));
    // From where its files are not found, it says where they were.
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    let mut command = place.command("align --out ../parts --resume --device cpu");
    let output = command.current_dir(place.path("elsewhere")).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && text.contains("the run was started in"), "{text}");
    // Nor does one whose rows were split by the seed, or whose batch is no larger than there are rows.
    let line = "align --left left.npy --right left.npy --seed 7 --epochs 3 --device cpu --out";
    place.succeed(&format!("{line} all"));
    place.succeed(&format!("{line} part --stop-after 1"));
    place.succeed("align --out part --resume --device cpu");
    assert!(place.bytes("all/heads.safetensors") == place.bytes("part/heads.safetensors"));
    assert_eq!(place.json("all/metrics.json")["batch_size"], 48);
}

#[test]
fn without_inputs_it_takes_the_emoji_data() {
    let place = Place::new();
    // Those of the checkout, where the current folder has none.
    let line = "align --epochs 1 --dim 8 --device cpu --out";
    let table = place.succeed(&format!("{line} far"));
    assert!(table.contains("emoji.safetensors#image_twemoji") && table.contains("383 test rows"), "{table}");
    std::fs::create_dir(place.path("data")).unwrap();
    std::fs::copy(place.path("pair.safetensors"), place.path("data/emoji.safetensors")).unwrap();
    place.refuse(&format!("{line} near"), &["data/emoji.safetensors", "image_twemoji", "right"]);
}

#[test]
fn without_a_split_the_seed_makes_one() {
    let place = Place::new();
    let split = "--split pair.safetensors#split";
    place.succeed(&place.align("--out run").replace(split, ""));
    let metrics = place.json("run/metrics.json");
    assert_eq!((&metrics["train_rows"], &metrics["test_rows"]), (&48.into(), &6.into()));
}

// Other systems refuse such names.
#[cfg(target_os = "linux")]
#[test]
fn names_need_not_be_unicode() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = |name: &[u8]| std::ffi::OsStr::from_bytes(name).to_os_string();
    let (left, out) = (odd(b"l\xff.npy"), odd(b"r\xff"));
    std::fs::copy(place.path("left.npy"), place.folder.path().join(&left)).unwrap();
    let line = place.align("").replace("--left left.npy", "");
    let output = place.command(&line).arg("--left").arg(&left).arg("--out").arg(&out).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(names(&place.folder.path().join(&out)), FILES);
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_behind_the_epoch() {
    let place = Place::new();
    let line = place.align("--out run").replace("--epochs 4", "--epochs 100000");
    let mut child = place.command(&line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !place.path("run/checkpoint.safetensors").is_file() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{text}");
    assert!(
        text.contains("interrupted") && text.contains("to go on: crossmodal align --out run --resume"),
        "{text}"
    );
    let done = *place.epochs("run").last().unwrap();
    let info = crossmodal::align::Checkpoint::read(&place.path("run/checkpoint.safetensors")).unwrap();
    assert_eq!(u64::from(info.epochs_done), done);
    place.succeed(&format!("align --out run --resume --device cpu --stop-after {}", done + 1));
    assert_eq!(place.epochs("run").len() as u64, done + 1);
}

#[test]
fn shards_are_read_in_the_order_of_their_numbers() {
    use crossmodal::io::write_npy;
    let place = Place::new();
    let read = |name: &str| read_features(&Source::parse(&place.path(name).display().to_string())).unwrap();
    let left = read("left.npy");
    for side in ["img", "text"] {
        std::fs::create_dir(place.path(side)).unwrap();
    }
    // Ten shards of 5 rows and one of 10: emb_10 is behind emb_9.
    for shard in 0..11 {
        let rows = if shard == 10 { 10 } else { 5 };
        let values = &left.values[shard * 5 * 6..][..rows * 6];
        for side in ["img", "text"] {
            write_npy(&place.path(&format!("{side}/{side}_emb_{shard}.npy")), rows, 6, values).unwrap();
        }
    }
    let split = "--split pair.safetensors#split --epochs 1 --batch-size 8 --dim 4 --device cpu";
    let output = place.run(&format!("align --left img --right text {split} --out shards"));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && text.contains("img_emb_9.npy 5, img_emb_10.npy 10 (rows)"), "{text}");
    place.succeed(&format!("align --left left.npy --right left.npy {split} --out whole"));
    assert!(place.bytes("shards/left.npy") == place.bytes("whole/left.npy"));
    // Searched as one matrix too, in pieces that do not end where the shards do.
    let found = |corpus: &str| {
        place.succeed(&format!("search --corpus {corpus} --queries left.npy -k 3 --device cpu"))
    };
    assert_eq!(found("img"), found("left.npy"));
    // One that is missing between others.
    std::fs::rename(place.path("img/img_emb_4.npy"), place.path("four.npy")).unwrap();
    place.refuse(
        &format!("align --left img --right text {split} --out other"),
        &["img", "a shard of number 4"],
    );
    std::fs::rename(place.path("four.npy"), place.path("img/img_emb_4.npy")).unwrap();
    // A shard that is shorter than its partner, though the rows add up.
    write_npy(&place.path("text/text_emb_0.npy"), 4, 6, &left.values[..24]).unwrap();
    write_npy(&place.path("text/text_emb_10.npy"), 11, 6, &left.values[..66]).unwrap();
    let output = place.run(&format!("align --left img --right text {split} --out other"));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("text: expected 5 rows in shard 0, as img has, got 4"), "{text}");
    assert!(output.status.code() == Some(2) && !place.path("other").exists());
}

#[test]
fn every_loss_and_head_trains_and_resumes() {
    let place = Place::new();
    for (i, flags) in [
        "--loss siglip",
        "--loss supcon --labels pair.safetensors#split",
        "--loss triplet --margin 0.3 --mining semi-hard --distance euclidean --softplus --swap",
        "--loss cosine",
        "--loss vicreg",
        "--loss barlow",
        "--smoothing 0.1 --hard-negatives 1 --queue 16",
        "--decoupled",
        "--queue 16 --enqueue before",
        "--head mlp --hidden 7",
        "--freeze left --dim 6",
        "--accum 3 --left left.npy",
        "--warmup 3 --grad-clip-norm 0.5",
    ]
    .iter()
    .enumerate()
    {
        let dim = if flags.contains("--dim") { "" } else { "--dim 4" };
        let line = place.align(&format!("{flags} {dim}")).replacen(" --dim 4", "", 1);
        let (whole, parts) = (format!("whole-{i}"), format!("parts-{i}"));
        place.succeed(&format!("{line} --out {whole}"));
        place.succeed(&format!("{line} --out {parts} --stop-after 2"));
        place.succeed(&format!("align --out {parts} --resume --device cpu"));
        let heads = |run: &str| place.bytes(&format!("{run}/heads.safetensors"));
        assert!(heads(&whole) == heads(&parts), "{flags}");
    }
    let metrics = place.json("whole-11/metrics.json");
    assert_eq!((&metrics["modalities"]["left"][1], &metrics["accum"]), (&"left.npy".into(), &3.into()));
    for (flags, words) in [
        ("--loss siglip --smoothing 0.1", ["--smoothing is for --loss infonce", "got --loss siglip"]),
        ("--margin 1", ["--margin is for --loss triplet", "got --loss infonce"]),
        ("--hidden 3", ["--hidden is for --head mlp", "got --head linear"]),
        ("--loss best", ["'best'", "--loss"]),
        ("--smoothing 1", ["--smoothing: expected 0 to less than 1", "got 1.0"]),
        ("--queue 3", ["--queue: expected 0 or at least a batch", "got 3"]),
        ("--enqueue before", ["--queue: expected at least a batch, to be enqueued before", "got 0"]),
        ("--loss siglip --enqueue after", ["--enqueue is for --loss infonce", "got --loss siglip"]),
        ("--freeze right", ["--dim: expected 5, the width of the frozen modality right", "got 4"]),
        ("--freeze top", ["--freeze: expected a modality (left, right)", "got top"]),
        ("--head residual", ["--head: expected features of 4 in every modality", "got 6 in left"]),
        ("--warmup 20", ["--warmup: expected fewer than the 20 steps", "got 20"]),
        ("--grad-clip-norm 0", ["--grad-clip-norm: expected a finite number above 0", "got 0"]),
        ("--accum 0", ["--accum: expected at least 1", "got 0"]),
        (
            "--left pair.safetensors#right",
            ["pair.safetensors#right: expected 6 columns, as left.npy", "got 5"],
        ),
    ] {
        place.refuse(&place.align(&format!("{flags} --out no")), &words);
    }
    assert!(!place.path("no").exists());
}
