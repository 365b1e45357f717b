//! The little XML that reference integrity manifests are made of, and its canonical form.
//!
//! `quick-xml` finds the markup; what is kept is a small tree with names as they were written, because the
//! canonical form (Canonical XML 1.1, W3C Recommendation of 2008-05-02) has them so. Everything in XML that
//! NVIDIA's manifests do without is refused: document types (and so entities), comments, processing
//! instructions, CDATA, character references, `xml:` attributes, carriage returns, and line breaks within
//! attributes. What is left has one canonical form, the same for Canonical XML 1.0 and 1.1.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::Malformed;

const FORMAT: &str = "XML";
/// A manifest has a depth of 6, in its signature.
const MAX_DEPTH: usize = 12;
/// A manifest has 64 resources and a signature of some 20 elements.
const MAX_ELEMENTS: usize = 1024;
/// An element has up to 12, and more with further alternatives of a digest.
const MAX_ATTRIBUTES: usize = 64;

/// An element, with what it declares and contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// As written: `prefix:local` or `local`.
    name: String,
    /// The namespace of the name; empty when it has none.
    namespace: String,
    /// Prefix and namespace; the prefix is empty for the default namespace.
    declarations: Vec<(String, String)>,
    attributes: Vec<Attribute>,
    contents: Vec<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    /// As written.
    name: String,
    namespace: String,
    value: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Element(Element),
    Text(String),
}

fn fault(offset: usize, expected: &'static str, seen: impl Into<String>) -> Malformed {
    Malformed::value(FORMAT, "markup", offset, expected, seen)
}

fn local(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

impl Element {
    /// Reads a document whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let text =
            str::from_utf8(bytes).map_err(|error| fault(error.valid_up_to(), "UTF-8", "other bytes"))?;
        if let Some(offset) = text.find(|char: char| char.is_control() && char != '\n' && char != '\t') {
            return Err(fault(offset, "text without control characters", "a control character"));
        }
        Builder::default().read(text)
    }

    /// Whether this is the element `local` of `namespace`.
    pub(super) fn is(&self, namespace: &str, local_name: &str) -> bool {
        self.namespace == namespace && local(&self.name) == local_name
    }

    /// The value of an attribute; `namespace` is empty for one without a prefix.
    pub(super) fn attribute(&self, namespace: &str, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| attribute.namespace == namespace && local(&attribute.name) == name)
            .map(|attribute| attribute.value.as_str())
    }

    /// How many attributes there are, declarations of namespaces aside.
    pub(super) fn attribute_count(&self) -> usize {
        self.attributes.len()
    }

    /// How many attributes of `namespace` there are.
    pub(super) fn attribute_count_in(&self, namespace: &str) -> usize {
        self.attributes.iter().filter(|attribute| attribute.namespace == namespace).count()
    }

    /// The elements in this one, whatever text is between them.
    pub(super) fn children(&self) -> impl Iterator<Item = &Self> {
        self.contents.iter().filter_map(|content| match content {
            Content::Element(element) => Some(element),
            Content::Text(_) => None,
        })
    }

    /// The elements in this one, when there is nothing but white space between them.
    pub(super) fn only_children(&self) -> Option<Vec<&Self>> {
        let blank = |content: &Content| match content {
            Content::Element(_) => true,
            Content::Text(text) => text.bytes().all(|byte| byte.is_ascii_whitespace()),
        };
        self.contents.iter().all(blank).then(|| self.children().collect())
    }

    /// The text in this element, when there is nothing else.
    pub(super) fn only_text(&self) -> Option<String> {
        self.contents
            .iter()
            .map(|content| match content {
                Content::Text(text) => Some(text.as_str()),
                Content::Element(_) => None,
            })
            .collect()
    }

    /// How many elements `local` of `namespace` there are at or below this one.
    pub(super) fn count(&self, namespace: &str, local_name: &str) -> usize {
        let below: usize = self.children().map(|child| child.count(namespace, local_name)).sum();
        below + usize::from(self.is(namespace, local_name))
    }

    /// The canonical form of the document that this element is the root of, without those of its children that
    /// are `omitted`.
    pub(super) fn canonical_document(&self, omitted: &Self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Vec::new(), &[], Some(omitted), &mut out);
        out
    }

    /// The canonical form of this element as a part of a document: it also declares the namespaces of its
    /// `ancestors`, the outermost first.
    pub(super) fn canonical_part(&self, ancestors: &[&Self]) -> Vec<u8> {
        let mut out = Vec::new();
        let inherited: Vec<_> =
            ancestors.iter().flat_map(|ancestor| &ancestor.declarations).cloned().collect();
        self.write(&mut Vec::new(), &inherited, None, &mut out);
        out
    }

    /// `rendered` are the declarations of the ancestors that are in the output already.
    fn write(
        &self,
        rendered: &mut Vec<(String, String)>,
        inherited: &[(String, String)],
        omitted: Option<&Self>,
        out: &mut Vec<u8>,
    ) {
        let depth = rendered.len();
        let mut declarations: Vec<&(String, String)> = Vec::new();
        for declaration in inherited.iter().chain(&self.declarations) {
            declarations.retain(|earlier| earlier.0 != declaration.0);
            declarations.push(declaration);
        }
        declarations.retain(|declaration| {
            let in_force = rendered.iter().rev().find(|earlier| earlier.0 == declaration.0);
            in_force.is_none_or(|earlier| earlier.1 != declaration.1)
        });
        declarations.sort();
        let mut attributes: Vec<_> = self.attributes.iter().collect();
        attributes.sort_by_key(|attribute| (&attribute.namespace, local(&attribute.name)));

        out.push(b'<');
        out.extend_from_slice(self.name.as_bytes());
        for (prefix, namespace) in &declarations {
            out.extend_from_slice(b" xmlns");
            if !prefix.is_empty() {
                out.push(b':');
                out.extend_from_slice(prefix.as_bytes());
            }
            write_value(namespace, out);
        }
        for attribute in attributes {
            out.push(b' ');
            out.extend_from_slice(attribute.name.as_bytes());
            write_value(&attribute.value, out);
        }
        out.push(b'>');
        rendered.extend(declarations.into_iter().cloned());
        for content in &self.contents {
            match content {
                Content::Text(text) => write_text(text, out),
                Content::Element(child) if omitted.is_some_and(|omitted| std::ptr::eq(omitted, child)) => {}
                Content::Element(child) => child.write(rendered, &[], None, out),
            }
        }
        rendered.truncate(depth);
        out.extend_from_slice(b"</");
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'>');
    }
}

fn write_value(value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"=\"");
    for byte in value.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            other => out.push(other),
        }
    }
    out.push(b'"');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'&' => out.extend_from_slice(b"&amp;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            other => out.push(other),
        }
    }
}

/// A document in the making.
#[derive(Default)]
struct Builder {
    /// The elements that are not closed yet, the outermost first.
    open: Vec<Element>,
    root: Option<Element>,
    elements: usize,
}

impl Builder {
    fn read(mut self, text: &str) -> Result<Element, Malformed> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().enable_all_checks(true);
        loop {
            let offset = usize::try_from(reader.buffer_position()).unwrap_or(usize::MAX);
            let event =
                reader.read_event().map_err(|error| fault(offset, "well-formed XML", error.to_string()))?;
            match event {
                Event::Decl(_) if offset == 0 => is_plain_declaration(text)?,
                Event::Start(start) => {
                    let element = self.element(&start, offset)?;
                    self.open.push(element);
                }
                Event::Empty(start) => {
                    let element = self.element(&start, offset)?;
                    self.close(element);
                }
                Event::End(_) => match self.open.pop() {
                    Some(element) => self.close(element),
                    None => return Err(fault(offset, "an open element", "the end of another")),
                },
                Event::Text(chunk) => self.text(&chunk, offset)?,
                Event::GeneralRef(reference) => {
                    let char = entity(&reference).ok_or_else(|| unknown_entity(offset, &reference))?;
                    self.text(char.encode_utf8(&mut [0; 4]), offset)?;
                }
                Event::Eof => break,
                _ => {
                    let expected = "elements and text alone";
                    return Err(fault(offset, expected, "a document type, comment, instruction or CDATA"));
                }
            }
        }
        match self.root {
            Some(root) if self.open.is_empty() => Ok(root),
            _ => Err(fault(text.len(), "one whole element", "the end of the text")),
        }
    }

    fn close(&mut self, element: Element) {
        match self.open.last_mut() {
            Some(parent) => parent.contents.push(Content::Element(element)),
            None => self.root = Some(element),
        }
    }

    fn text(&mut self, chunk: &str, offset: usize) -> Result<(), Malformed> {
        let Some(parent) = self.open.last_mut() else {
            let blank = chunk.bytes().all(|byte| byte.is_ascii_whitespace());
            return if blank { Ok(()) } else { Err(fault(offset, "one element", "text outside of it")) };
        };
        match parent.contents.last_mut() {
            Some(Content::Text(text)) => text.push_str(chunk),
            _ => parent.contents.push(Content::Text(chunk.to_owned())),
        }
        Ok(())
    }

    fn element(&mut self, start: &BytesStart<'_>, offset: usize) -> Result<Element, Malformed> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS || self.open.len() >= MAX_DEPTH {
            return Err(fault(offset, "at most 1024 elements, 12 deep", "more"));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(fault(offset, "one element", "a second one"));
        }
        let (mut declarations, mut written) = (Vec::new(), Vec::new());
        for attribute in start.attributes() {
            if declarations.len() + written.len() >= MAX_ATTRIBUTES {
                return Err(fault(offset, "at most 64 attributes", "more"));
            }
            let attribute = attribute.map_err(|error| fault(offset, "attributes", error.to_string()))?;
            let name = qualified(attribute.key.0, offset)?;
            let value = unescape(&attribute.value, offset)?;
            match name.split_once(':') {
                _ if name == "xmlns" => declarations.push((String::new(), value)),
                Some(("xmlns", prefix)) => declarations.push((prefix.to_owned(), value)),
                Some(("xml", _)) => return Err(fault(offset, "attributes without meaning in XML", name)),
                _ => written.push((name, value)),
            }
        }
        if let Some((prefix, _)) =
            declarations.iter().find(|(prefix, namespace)| namespace.is_empty() || prefix.starts_with("xml"))
        {
            return Err(fault(offset, "a namespace", format!("none, or another meaning, for {prefix:?}")));
        }
        let name = qualified(start.name().0, offset)?;
        let namespace = self.resolve(&name, &declarations, true, offset)?;
        let mut attributes: Vec<Attribute> = Vec::with_capacity(written.len());
        for (name, value) in written {
            let namespace = self.resolve(&name, &declarations, false, offset)?;
            let same = |other: &Attribute| other.namespace == namespace && local(&other.name) == local(&name);
            if attributes.iter().any(same) {
                return Err(fault(offset, "an attribute once", name));
            }
            attributes.push(Attribute { name, namespace, value });
        }
        Ok(Element { name, namespace, declarations, attributes, contents: Vec::new() })
    }

    /// The namespace of a name. One without a prefix is in the default namespace if it is an element's, and in
    /// none if it is an attribute's.
    fn resolve(
        &self,
        name: &str,
        declared: &[(String, String)],
        element: bool,
        offset: usize,
    ) -> Result<String, Malformed> {
        let prefix = match name.split_once(':') {
            Some((prefix, _)) => prefix,
            None if element => "",
            None => return Ok(String::new()),
        };
        let outer = self.open.iter().rev().flat_map(|element| &element.declarations);
        match declared.iter().chain(outer).find(|(known, _)| known == prefix) {
            Some((_, namespace)) => Ok(namespace.clone()),
            None if prefix.is_empty() => Ok(String::new()),
            None => Err(fault(offset, "a declared prefix", name)),
        }
    }
}

/// `<?xml version="1.0" encoding="UTF-8"?>`, or the same without its encoding. The signature does not cover it.
fn is_plain_declaration(text: &str) -> Result<(), Malformed> {
    let declaration = text.split_once("?>").map_or("", |(declaration, _)| declaration);
    let plain = declaration.trim_end().replace('\'', "\"").to_ascii_lowercase();
    match plain.as_str() {
        "<?xml version=\"1.0\"" | "<?xml version=\"1.0\" encoding=\"utf-8\"" => Ok(()),
        _ => Err(fault(0, "XML 1.0 in UTF-8", declaration)),
    }
}

/// A name of letters, digits, `_`, `-` and `.`, with at most one prefix.
fn qualified(name: &str, offset: usize) -> Result<String, Malformed> {
    let part = |part: &str| {
        part.starts_with(|char: char| char.is_ascii_alphabetic() || char == '_')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
    };
    let plain = match name.split_once(':') {
        Some((prefix, local)) => part(prefix) && part(local),
        None => part(name),
    };
    if plain { Ok(name.to_owned()) } else { Err(fault(offset, "a plain name", name)) }
}

fn entity(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => None,
    }
}

fn unknown_entity(offset: usize, name: &str) -> Malformed {
    fault(offset, "one of XML's own five entities", format!("&{name};"))
}

/// The value of an attribute as its writer meant it.
fn unescape(text: &str, offset: usize) -> Result<String, Malformed> {
    if text.contains(['\n', '\t', '<']) {
        return Err(fault(offset, "an attribute on one line", "a line break, tab or bracket in it"));
    }
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or_else(|| unknown_entity(offset, part))?;
        plain.push(entity(name).ok_or_else(|| unknown_entity(offset, name))?);
        plain.push_str(rest);
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        let root = Element::parse(text.as_bytes()).unwrap();
        let nothing = Element::parse(b"<x/>").unwrap();
        String::from_utf8(root.canonical_document(&nothing)).unwrap()
    }

    /// The rules of Canonical XML 1.1, §1.1, that can apply here.
    #[test]
    fn the_canonical_form_is_as_the_recommendation_says() {
        for (text, expected) in [
            ("<?xml version=\"1.0\"?>\n\n<e/>\n", "<e></e>"),
            ("<e  b = 'x'\n a=\"y\" ></e >", "<e a=\"y\" b=\"x\"></e>"),
            (
                "<e a='\"&lt;&amp;&gt;&apos;'>&lt;&amp;&gt;&quot;</e>",
                "<e a=\"&quot;&lt;&amp;>'\">&lt;&amp;&gt;\"</e>",
            ),
            // Namespaces by prefix, the default first; attributes by namespace and local name.
            (
                "<e b:a='1' a:b='2' c='3' xmlns:b='urn:1' xmlns:a='urn:2' xmlns='urn:3'/>",
                "<e xmlns=\"urn:3\" xmlns:a=\"urn:2\" xmlns:b=\"urn:1\" c=\"3\" b:a=\"1\" a:b=\"2\"></e>",
            ),
            // What an ancestor declared already is left out.
            (
                "<a:e xmlns:a='urn:1'><f xmlns:a='urn:1'/><f xmlns:a='urn:2'/></a:e>",
                "<a:e xmlns:a=\"urn:1\"><f></f><f xmlns:a=\"urn:2\"></f></a:e>",
            ),
        ] {
            assert_eq!(canonical(text), expected);
        }
    }

    #[test]
    fn a_part_declares_what_its_ancestors_did() {
        let root =
            Element::parse(b"<e xmlns='urn:1' xmlns:b='urn:2'><f xmlns:b='urn:3'><g/></f></e>").unwrap();
        let f = root.children().next().unwrap();
        let g = f.children().next().unwrap();
        let part = String::from_utf8(g.canonical_part(&[&root, f])).unwrap();
        assert_eq!(part, "<g xmlns=\"urn:1\" xmlns:b=\"urn:3\"></g>");
    }

    #[test]
    fn the_rest_of_xml_is_refused() {
        for text in [
            "",
            "x",
            "<e>",
            "<e></f>",
            "<e/><e/>",
            "<e/>x",
            "<!DOCTYPE e [<!ENTITY a \"aaaa\">]><e>&a;</e>",
            "<e>&a;</e>",
            "<e>&#65;</e>",
            "<e a='&#65;'/>",
            "<e a='&amp'/>",
            "<e a='1' a='2'/>",
            "<e xmlns:a='urn:1' xmlns:b='urn:1' a:c='1' b:c='2'/>",
            "<a:e/>",
            "<e a:b='1'/>",
            "<e xml:space='preserve'/>",
            "<e xmlns=''/>",
            "<e xmlns:xml='urn:1'/>",
            "<e><!-- --></e>",
            "<e><![CDATA[x]]></e>",
            "<e><?x y?></e>",
            "<?xml version=\"1.1\"?><e/>",
            "<?xml version=\"1.0\" encoding=\"UTF-16\"?><e/>",
            "<e a='1\n2'/>",
            "<e>\r\n</e>",
            "<e a=1/>",
        ] {
            assert!(Element::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Element::parse(("<e>".repeat(13) + &"</e>".repeat(13)).as_bytes()).is_err());
        let attributes: String = (0..65).map(|number| format!(" a{number}='1'")).collect();
        assert!(Element::parse(format!("<e{attributes}/>").as_bytes()).is_err());
        assert!(Element::parse(format!("<e>{}</e>", "<e/>".repeat(1024)).as_bytes()).is_err());
    }
}
