//! The name of a stored array.

use std::path::{Path, PathBuf};

/// Names one stored array: `FILE` or `FILE#TENSOR`.
///
/// A `.npy` file holds one array without a name, so it takes no tensor name; a `.safetensors` file needs one unless
/// it holds exactly one tensor.
///
/// ```
/// use crossmodal::io::Source;
/// let source = Source { path: "emoji.safetensors".into(), tensor: Some("label".into()) };
/// assert_eq!(source, Source::parse("emoji.safetensors#label"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// The tensor in it, if one is named.
    pub tensor: Option<String>,
}

impl Source {
    /// Splits `FILE#TENSOR` at the last `#`, if what stands before it ends in `.npy` or `.safetensors` (in capitals
    /// or not); everything else is the path alone, since folders may have a `#` in their name.
    ///
    /// ```
    /// use crossmodal::io::Source;
    ///
    /// let source = Source::parse("run #2/emoji.safetensors#text");
    /// assert_eq!(source.path.to_str(), Some("run #2/emoji.safetensors"));
    /// assert_eq!(source.tensor.as_deref(), Some("text"));
    /// assert_eq!(source.to_string(), "run #2/emoji.safetensors#text");
    /// assert_eq!(Source::parse("run #2/emoji.npy").tensor, None);
    /// ```
    pub fn parse(text: &str) -> Source {
        if let Some((path, tensor)) = text.rsplit_once('#') {
            let path = Path::new(path);
            if has_extension(path, "npy") || has_extension(path, "safetensors") {
                return Source { path: path.to_path_buf(), tensor: Some(tensor.to_string()) };
            }
        }
        Source { path: PathBuf::from(text), tensor: None }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tensor {
            Some(tensor) => write!(f, "{}#{tensor}", self.path.display()),
            None => write!(f, "{}", self.path.display()),
        }
    }
}

/// Whether a file name ends in `.extension`, in capitals or not.
pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_only_behind_a_known_extension() {
        let cases = [
            ("a.safetensors#x", "a.safetensors", Some("x")),
            (r"C:\data\A.SafeTensors#x y", r"C:\data\A.SafeTensors", Some("x y")),
            ("/d#1/a.npy", "/d#1/a.npy", None),
            ("/d#1/a.npy#x", "/d#1/a.npy", Some("x")),
            ("a.safetensors#", "a.safetensors", Some("")),
            ("a.safetensors", "a.safetensors", None),
            ("a.h5#x", "a.h5#x", None),
            ("#", "#", None),
            ("", "", None),
        ];
        for (text, path, tensor) in cases {
            let source = Source::parse(text);
            assert_eq!((source.path.to_str(), source.tensor.as_deref()), (Some(path), tensor), "{text}");
            assert_eq!(source.to_string(), text);
        }
    }
}
