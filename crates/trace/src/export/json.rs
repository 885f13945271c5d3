//! The JSON form of a report.

use crate::report::Report;

/// The report as JSON, in one line.
pub fn write(report: &Report) -> String {
    // Every number in a report is finite or it would be written as null; structures with named fields cannot fail.
    serde_json::to_string(report).expect("a report is plain data")
}

/// A report from its JSON form: one that this version has written, or an older one of the same schema.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub fn read(text: &str) -> Result<Report, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: Option<u32>,
    }
    let version: Version = serde_json::from_str(text).map_err(|error| format!("this is not JSON: {error}"))?;
    match version.schema {
        Some(Report::SCHEMA) => {}
        Some(other) => {
            return Err(format!("the report has schema {other}; this version of breakeven reads {}", Report::SCHEMA));
        }
        None => return Err("this JSON is no report of breakeven's: it has no `schema`".into()),
    }
    serde_json::from_str(text).map_err(|error| format!("the report is damaged: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Cause;
    use crate::export::html::tests::sample;
    use serde_json::Value;
    use std::fmt::Write as _;

    /// docs/why-json.md, made from the types and what is written beside them.
    fn page() -> String {
        let schema = serde_json::to_value(schemars::schema_for!(Report)).unwrap();
        let mut page = format!(
            "# The JSON form of a report\n\n\
             What `breakeven why --json FILE` writes and `breakeven report FILE` reads, schema {}. Fields are added, never \
             renamed or\ntaken away, as long as the number stays. Times are seconds, moments seconds after the start of the \
             program, sizes bytes.\n\n\
             This page is made from `crates/trace/src/report.rs` (`make why-json`); a test holds that it is not stale.\n",
            Report::SCHEMA
        );
        let mut queue = vec!["Report".to_owned()];
        let mut done: Vec<String> = Vec::new();
        while !queue.is_empty() {
            let name = queue.remove(0);
            if done.contains(&name) {
                continue;
            }
            done.push(name.clone());
            let of = if name == "Report" { &schema } else { &schema["$defs"][&name] };
            write!(page, "\n## {name}\n\n{}\n", words(&of["description"])).unwrap();
            if let Some(variants) = of["oneOf"].as_array() {
                page.push_str("\nOne of these strings:\n\n| string | what it means |\n|---|---|\n");
                for variant in variants {
                    let text = variant["const"].as_str().unwrap();
                    writeln!(page, "| `{text}` | {} |", words(&variant["description"])).unwrap();
                }
                continue;
            }
            if name == "Cause" {
                page.push_str("\nOne of these strings:\n\n| string | what it means |\n|---|---|\n");
                for (cause, doc) in Cause::ALL.iter().zip(Cause::DOCS) {
                    writeln!(page, "| `{cause}` | {} |", words(&Value::from(*doc))).unwrap();
                }
                continue;
            }
            page.push_str("\n| field | type | what it is |\n|---|---|---|\n");
            for (field, what) in of["properties"].as_object().unwrap() {
                let kind = kind(what, &mut queue);
                writeln!(page, "| `{field}` | {kind} | {} |", words(&what["description"])).unwrap();
            }
        }
        page
    }

    /// A description as one line, without what only rustdoc reads.
    fn words(text: &Value) -> String {
        let text =
            text.as_str().unwrap_or("What a second of a process went into.").split_whitespace().collect::<Vec<_>>();
        text.join(" ")
            .replace("[`", "`")
            .replace("`]", "`")
            .replace(", `Report::SCHEMA`", "")
            .replace("Report::", "")
            .replace("Cause::None", "none")
            .replace("crate::recording::", "")
            .replace('|', "\\|")
    }

    /// A type in words; the types it is made of come into the queue.
    fn kind(of: &Value, queue: &mut Vec<String>) -> String {
        if let Some(name) = of["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap().to_owned();
            queue.push(name.clone());
            return format!("[{name}](#{})", name.to_lowercase());
        }
        if let Some(any) = of["anyOf"].as_array() {
            return any.iter().map(|one| kind(one, queue)).collect::<Vec<_>>().join(" or ");
        }
        if let Some(pair) = of["prefixItems"].as_array() {
            return format!("[{}]", pair.iter().map(|one| kind(one, queue)).collect::<Vec<_>>().join(", "));
        }
        let of_word = |word: &str, queue: &mut Vec<String>| match word {
            "array" => format!("list of {}", kind(&of["items"], queue)),
            other => other.to_owned(),
        };
        match &of["type"] {
            Value::Array(words) => {
                words.iter().map(|word| of_word(word.as_str().unwrap(), queue)).collect::<Vec<_>>().join(" or ")
            }
            word => of_word(word.as_str().unwrap(), queue),
        }
    }

    /// Stale if it fails: `make why-json` writes the page anew.
    #[test]
    fn the_page_of_the_schema_is_true() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/why-json.md");
        if std::env::var_os("WRITE_WHY_JSON").is_some() {
            std::fs::write(path, page()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), page(), "`make why-json` writes it anew");
    }

    /// What the page lists is what is written, no more and no less.
    #[test]
    fn the_schema_is_what_is_written() {
        let schema = serde_json::to_value(schemars::schema_for!(Report)).unwrap();
        fn compare(value: &Value, of: &Value, schema: &Value, path: &str) {
            if let Some(name) = of["$ref"].as_str() {
                return compare(value, &schema["$defs"][name.rsplit('/').next().unwrap()], schema, path);
            }
            if let Some(any) = of["anyOf"].as_array() {
                return compare(value, any.iter().find(|one| one["type"] != "null").unwrap(), schema, path);
            }
            match value {
                Value::Object(fields) => {
                    let written: Vec<&String> = fields.keys().collect();
                    let listed: Vec<&String> = of["properties"].as_object().unwrap().keys().collect();
                    assert_eq!(written, listed, "{path}");
                    for (name, value) in fields {
                        compare(value, &of["properties"][name], schema, &format!("{path}.{name}"));
                    }
                }
                Value::Array(values) if of["items"].is_object() => {
                    assert!(!values.is_empty(), "{path}: the sample has one of each");
                    values.iter().for_each(|value| compare(value, &of["items"], schema, path));
                }
                _ => {}
            }
        }
        compare(&serde_json::to_value(sample()).unwrap(), &schema, &schema, "report");
    }

    #[test]
    fn reports_read_back() {
        let report = sample();
        assert_eq!(read(&write(&report)), Ok(report));
    }

    #[test]
    fn what_is_no_report_is_told() {
        for (text, expected) in [
            ("{", "not JSON"),
            ("[]", "not JSON"),
            ("{}", "no `schema`"),
            (r#"{"schema": 99}"#, "schema 99"),
            (r#"{"schema": 1}"#, "damaged"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn fields_of_later_versions_are_ignored() {
        let text = write(&sample()).replacen('{', r#"{"invented_later": [1, 2], "#, 1);
        assert!(read(&text).is_ok());
    }
}
