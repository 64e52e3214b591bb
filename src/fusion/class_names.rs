//! Names of classes, as the file of a fusion holds them.

use crate::error::{Error, Result};
use std::collections::BTreeMap;

/// The key of a file's metadata.
const KEY: &str = "class_names";

/// The entry of some names: none where there are none.
pub(super) fn entry(names: &[String], classes: usize) -> Result<Option<(String, String)>> {
    if names.is_empty() {
        return Ok(None);
    }
    if names.len() != classes {
        let expected = format!("{classes}, one a class, or none");
        return Err(Error::argument("save", "class names", expected, names.len()));
    }
    let text = serde_json::to_string(names);
    let text = text.map_err(|error| Error::argument("save", "class names", "text", error))?;
    Ok(Some((KEY.to_string(), text)))
}

/// The names that a file holds; none if they do not fit.
pub(super) fn parse(metadata: &BTreeMap<String, String>, classes: usize) -> Option<Vec<String>> {
    match metadata.get(KEY) {
        None => Some(vec![]),
        Some(text) => serde_json::from_str(text).ok().filter(|names: &Vec<String>| names.len() == classes),
    }
}
