//! Pictures as XML.

use std::collections::BTreeMap;

/// One element of a picture: its name, its attributes, the text behind its tag, whether it is within a map.
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) text: String,
    pub(crate) in_map: bool,
}

/// The elements of a file that must be well-formed XML.
pub(crate) fn elements(svg: &str) -> Vec<Element> {
    let (mut all, mut open): (Vec<Element>, Vec<(String, bool)>) = (vec![], vec![]);
    let mut rest = svg;
    while let Some((text, behind)) = rest.split_once('<') {
        assert!(!text.contains('>') && (!open.is_empty() || text.trim().is_empty()), "{text}");
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|own| entity.starts_with(own)), "&{entity}");
        }
        if let Some(last) = all.last_mut().filter(|last| last.text.is_empty()) {
            last.text = text.into();
        }
        let (tag, behind) = behind.split_once('>').expect("a tag ends");
        rest = behind;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().map(|(name, _)| name).as_deref(), Some(name));
            continue;
        }
        let (tag, closed) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, mut given) = tag.split_once(' ').unwrap_or((tag, ""));
        let mut attributes = BTreeMap::new();
        while !given.trim().is_empty() {
            let (key, behind) = given.split_once("=\"").expect("an attribute has a value");
            let (value, behind) = behind.split_once('"').expect("a value ends");
            let key = key.trim().to_string();
            assert!(!key.contains(' ') && attributes.insert(key, value.to_string()).is_none(), "{tag}");
            given = behind;
        }
        let map = attributes.get("class").is_some_and(|class| class == "map");
        let in_map = open.last().is_some_and(|(_, map)| *map);
        if !closed {
            open.push((name.to_string(), map || in_map));
        }
        all.push(Element { name: name.into(), attributes, text: String::new(), in_map });
    }
    assert!(open.is_empty() && rest.trim().is_empty());
    all
}
