//! Classification by prompts.

use super::class_vectors::ClassVectors;
use super::classification::{Classification, Labelled, rank};
use crate::align::{ROWS, UnitRows, check_widths, pieces};
use crate::error::Result;
use rayon::prelude::*;
use std::ops::Range;

/// Zero-shot classification: an image's class is the one whose prompts it is most similar to (Radford et al., 2021).
///
/// The vector of class c is `normalise(mean of normalise(p) over its prompts p)`; classes are ranked by the cosine of image and
/// class vector, and of equal classes the lower number comes first. The classes are those that have a prompt; one without an
/// image is left out of the mean per class.
///
/// Errors: no rows, a value that is not finite, labels that are not one a row, widths that differ; an image of a class without a
/// prompt. Example: [the module](super).
pub fn zero_shot(images: &Labelled<'_>, prompts: &Labelled<'_>) -> Result<Classification> {
    images.check("zero_shot", ["images", "labels"])?;
    prompts.check("zero_shot", ["prompts", "prompt labels"])?;
    check_widths("zero_shot", "prompts", images.features, prompts.features)?;
    let classes = ClassVectors::new("zero_shot", prompts)?;
    let own = classes.numbers("labels", images.labels)?;
    let x = UnitRows::new("zero_shot", "images", images.features)?;
    let of_chunk = |rows: &Range<usize>| {
        let ranks = classes.similarities(&x, rows).into_iter().zip(&own[rows.clone()]);
        ranks.map(|(scores, &own)| Some(rank(&scores, own))).collect::<Vec<_>>()
    };
    let chunks: Vec<_> = pieces(x.rows(), ROWS).collect();
    let ranks: Vec<_> = chunks.par_iter().flat_map_iter(of_chunk).collect();
    Ok(Classification::new(&ranks, images.labels, classes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::align::COLS;
    use crate::io::Features;

    fn features(values: &[f32]) -> Features {
        Features { rows: values.len() / 2, cols: 2, values: values.to_vec() }
    }

    #[test]
    fn a_long_prompt_counts_as_much_as_a_short_one() {
        // Class 0 points to (1, 1) whatever its prompts' lengths; class 1 to (0, 1). At 70 degrees class 1 is nearer, at 60 class 0.
        let prompts = features(&[100., 0., 0., 1., 0., 3.]);
        let at = |degrees: f32| [degrees.to_radians().cos(), degrees.to_radians().sin()];
        let images = features(&[at(60.), at(70.)].concat());
        let prompts = Labelled { features: &prompts, labels: &[0, 0, 1] };
        let scores = zero_shot(&Labelled { features: &images, labels: &[0, 1] }, &prompts).unwrap();
        assert_eq!((scores.top_1, scores.mean_per_class, scores.classes), (100., 100., 2));
    }

    #[test]
    fn classes_without_an_image_are_predicted_but_not_averaged() {
        let prompts = features(&[1., 0., 0., 1., -1., 0.]);
        let images = features(&[1., 0., -1., 0.]);
        let prompts = Labelled { features: &prompts, labels: &[10, 20, -5] };
        let scores = zero_shot(&Labelled { features: &images, labels: &[10, 10] }, &prompts).unwrap();
        assert_eq!((scores.top_1, scores.top_5, scores.mean_per_class, scores.classes), (50., 100., 50., 3));
    }

    #[test]
    fn more_classes_than_a_block_are_ranked() {
        let count = COLS + 3;
        let angle = |class: usize| class as f32 * 0.02;
        let all = features(&(0..count).flat_map(|c| [angle(c).cos(), angle(c).sin()]).collect::<Vec<_>>());
        let labels: Vec<_> = (0..count as i64).collect();
        let items = Labelled { features: &all, labels: &labels };
        assert_eq!(zero_shot(&items, &items).unwrap().top_1, 100.);
        let shifted: Vec<_> = (0..count as i64).map(|class| (class + 2) % count as i64).collect();
        let scores = zero_shot(&Labelled { labels: &shifted, ..items }, &items).unwrap();
        // Two classes off is fourth or fifth; of the first and last rows, third or the farthest.
        assert_eq!(scores.top_1, 0.);
        assert!((scores.top_5 - 100. * (count - 2) as f64 / count as f64).abs() < 1e-9);
    }

    #[test]
    fn a_class_without_a_prompt_is_refused() {
        let one = features(&[1., 0.]);
        let prompts = Labelled { features: &one, labels: &[1] };
        let error = zero_shot(&Labelled { features: &one, labels: &[2] }, &prompts).unwrap_err().to_string();
        assert!(error.contains("class 2 of row 0"), "{error}");
        let nan = features(&[1., 0., f32::NAN, 0.]);
        let error =
            zero_shot(&Labelled { features: &nan, labels: &[1, 1] }, &prompts).unwrap_err().to_string();
        assert!(error.contains("images") && error.contains("NaN in row 1"), "{error}");
    }
}
