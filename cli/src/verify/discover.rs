//! Search for cases under the given paths.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use warpconv::files;

use crate::exit::Failure;

/// Maximum depth of nested folders.
const MAX_DEPTH: usize = 8;
/// Maximum number of problems in a shape file; all of benchdnn's files together have a tenth.
const MAX_PROBLEMS: usize = 100_000;
/// Maximum length of a problem in bytes, several times that of one with every field, every word and
/// a long name.
const MAX_BYTES: usize = 4096;

/// One thing to verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A folder with `case.json`: a golden case, an ONNX case or a trained network.
    Case(PathBuf),
    /// An image for SqueezeNet, with the weights and `expected.json` in the same folder.
    Picture(PathBuf),
    /// A folder with `graph.json`: a network whose weights are generated, not stored.
    Generated(PathBuf),
    /// A line of a benchdnn shape file.
    Shape(ShapeLine),
}

/// A problem in a benchdnn shape file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeLine {
    /// Path of the file.
    pub file: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// The problem in benchdnn notation.
    pub text: String,
}

impl Source {
    /// Name of the source in reports; `verify` accepts it to run the source alone.
    pub fn label(&self) -> String {
        match self {
            Source::Case(path) | Source::Picture(path) | Source::Generated(path) => {
                path.display().to_string()
            }
            Source::Shape(shape) => format!("{}:{}", shape.file.display(), shape.line),
        }
    }

    /// Returns whether the user's filter matches the source.
    pub fn matches(&self, filter: &str) -> bool {
        let in_text = matches!(self, Source::Shape(shape) if shape.text.contains(filter));
        in_text || self.label().contains(filter)
    }
}

/// Finds every case under the paths, in order of path and name; a path without cases is an error.
pub fn discover(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    let mut sources = Vec::new();
    for path in paths {
        let before = sources.len();
        if path.is_dir() {
            walk(path, 0, &mut HashSet::new(), &mut sources)?;
        } else {
            file(path, &mut sources)?;
        }
        if sources.len() == before {
            return Err(Failure::Input(format!(
                "{}: no cases: expected folders with case.json, or benchdnn shape files (shapes_*)",
                path.display()
            )));
        }
    }
    Ok(sources)
}

/// Adds the sources of a file: a case.json, a shape file, or a line of one.
fn file(path: &Path, sources: &mut Vec<Source>) -> Result<(), Failure> {
    if path.is_file() {
        if path.file_name().is_some_and(|name| name == "case.json") {
            let folder = path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or(Path::new("."));
            sources.push(Source::Case(folder.to_owned()));
            return Ok(());
        }
        if path.extension().is_some_and(|extension| extension == "png") {
            sources.push(Source::Picture(path.to_owned()));
            return Ok(());
        }
        sources.extend(shape_lines(path)?.into_iter().map(Source::Shape));
        return Ok(());
    }
    if let Some((file, line)) = file_and_line(path) {
        match shape_lines(&file)?
            .into_iter()
            .find(|shape| shape.line == line)
        {
            Some(shape) => sources.push(Source::Shape(shape)),
            None => {
                return Err(Failure::Input(format!(
                    "{}: no problem on line {line}",
                    file.display()
                )));
            }
        }
        return Ok(());
    }
    // Other file types, such as pipes, are rejected on reading.
    sources.extend(shape_lines(path)?.into_iter().map(Source::Shape));
    Ok(())
}

/// `FILE:LINE` where FILE exists.
pub fn file_and_line(path: &Path) -> Option<(PathBuf, usize)> {
    let (file, line) = path.to_str()?.rsplit_once(':')?;
    let file = PathBuf::from(file);
    file.is_file().then_some((file, line.parse().ok()?))
}

/// Searches a folder that was not `seen` yet: links may lead to it several times, and form cycles.
fn walk(
    folder: &Path,
    depth: usize,
    seen: &mut HashSet<PathBuf>,
    sources: &mut Vec<Source>,
) -> Result<(), Failure> {
    let failure = |error| Failure::File {
        path: folder.to_owned(),
        error,
    };
    if !seen.insert(folder.canonicalize().map_err(failure)?) {
        return Ok(());
    }
    // The file type is not tested: a pipe or a device of that name is rejected on reading, not
    // ignored.
    if folder.join("case.json").exists() {
        sources.push(Source::Case(folder.to_owned()));
        return Ok(());
    }
    if folder.join("graph.json").exists() {
        sources.push(Source::Generated(folder.to_owned()));
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(failure)? {
        entries.push(entry.map_err(failure)?.path());
    }
    entries.sort();
    let squeezenet = folder.join("expected.json").exists() && folder.join("conv1_w.npy").exists();
    for entry in entries {
        let name = entry
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("");
        if entry.is_dir() {
            walk(&entry, depth + 1, seen, sources)?;
        } else if squeezenet && name.starts_with("input_") && name.ends_with(".png") {
            sources.push(Source::Picture(entry));
        } else if name.starts_with("shapes_") {
            sources.extend(shape_lines(&entry)?.into_iter().map(Source::Shape));
        }
    }
    Ok(())
}

/// The problems of a shape file: one per line; `#` starts a comment. benchdnn's own options
/// (`--batch=...`) are ignored: they control how its driver runs a problem.
pub fn shape_lines(file: &Path) -> Result<Vec<ShapeLine>, Failure> {
    let text = files::text(file, files::SHAPES).map_err(|error| Failure::File {
        path: file.to_owned(),
        error,
    })?;
    let refused = |line: usize, why: String| {
        let file = file.display();
        Err(Failure::Input(format!("{file}:{line}: {why}")))
    };
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let problem = line.split('#').next().unwrap_or("").trim();
        if !problem.is_empty() && !problem.starts_with("--") {
            if problem.len() > MAX_BYTES {
                let has = problem.len();
                let why = format!(
                    "{has} bytes, the most that a problem may have is {MAX_BYTES}: give one \
                     problem per line"
                );
                return refused(index + 1, why);
            }
            if lines.len() == MAX_PROBLEMS {
                let why =
                    format!("more than {MAX_PROBLEMS} problems, the most of a file: split it");
                return refused(index + 1, why);
            }
            lines.push(ShapeLine {
                file: file.to_owned(),
                line: index + 1,
                text: problem.to_owned(),
            });
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A temporary folder for a test, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir()
                .join(format!("warpconv-discover-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            fs::create_dir_all(&folder).expect("a scratch folder");
            Scratch(folder)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn finds_cases_networks_and_shapes_in_order() {
        let scratch = Scratch::new("walk");
        scratch.write("golden/b/case.json", "{}");
        scratch.write("golden/a/case.json", "{}");
        scratch.write("golden/index.json", "{}");
        scratch.write("real/squeezenet/expected.json", "{}");
        scratch.write("real/squeezenet/conv1_w.npy", "");
        scratch.write("real/squeezenet/input_cat.png", "");
        scratch.write(
            "shapes/conv/shapes_x",
            "# comment\n\nic3oc4_ih5kh3ph1n\"a\" # why\n--batch=other\n",
        );
        let found = discover(std::slice::from_ref(&scratch.0)).expect("cases");
        let root = &scratch.0;
        assert_eq!(
            found,
            [
                Source::Case(root.join("golden/a")),
                Source::Case(root.join("golden/b")),
                Source::Picture(root.join("real/squeezenet/input_cat.png")),
                Source::Shape(ShapeLine {
                    file: root.join("shapes/conv/shapes_x"),
                    line: 3,
                    text: "ic3oc4_ih5kh3ph1n\"a\"".into()
                }),
            ]
        );
        let again =
            discover(&[PathBuf::from(found[3].label())]).expect("the label finds the line again");
        assert_eq!(again, found[3..]);
        assert!(
            found[3].matches("oc4") && found[3].matches("shapes_x") && !found[3].matches("oc5")
        );
    }

    #[test]
    fn says_what_is_wrong_with_a_path() {
        let scratch = Scratch::new("wrong");
        let missing = discover(&[scratch.0.join("missing")]).expect_err("a missing path");
        assert!(matches!(missing, Failure::File { .. }), "{missing}");
        let empty = discover(std::slice::from_ref(&scratch.0)).expect_err("an empty folder");
        assert!(empty.to_string().contains("no cases"), "{empty}");
        scratch.write("shapes_x", "ic3oc4_ih5kh3ph1\n");
        let line = discover(&[scratch.0.join("shapes_x:9")]).expect_err("a line too many");
        assert!(line.to_string().contains("line 9"), "{line}");
        fs::write(scratch.0.join("binary"), [0xff, 0xfe, 0]).expect("a file");
        assert!(discover(&[scratch.0.join("binary")]).is_err());
    }
}
