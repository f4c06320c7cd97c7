//! Problems from the command line: benchdnn notation, a shape file, or a line of one.

use std::path::Path;

use warpconv::kernels::Math;
use warpconv::plan::Operation;
use warpconv::problem::FilterLayout;
use warpconv::problem::notation::{self, Problem};
use warpconv::{DType, Error, Layout};

use crate::args::ProblemsArgs;
use crate::exit::Failure;
use crate::tuning::warn;
use crate::verify::{file_and_line, shape_lines};

/// Changes that the options make to every problem.
#[derive(Clone, Copy, Debug, Default)]
struct Changes {
    batch: Option<usize>,
    dtype: Option<DType>,
    layout: Option<Layout>,
    filter_layout: Option<FilterLayout>,
    math: Option<Math>,
}

/// A problem and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Name in the input: the notation, or `FILE:LINE`.
    pub label: String,
    /// The name in the notation, if any.
    pub name: Option<String>,
    /// The problem, after the changes of the options.
    pub problem: Problem,
}

impl Changes {
    /// Applies the changes to a problem. Options for convolutions do not change a pooling.
    fn apply(&self, problem: Problem) -> Result<Problem, Error> {
        match problem {
            // Applied at once: some changes are possible only together, such as another type and
            // another mode.
            Problem::Conv(conv) => conv
                .to_builder()
                .input(
                    self.batch.unwrap_or(conv.input().n()),
                    conv.input().c(),
                    conv.input().h(),
                    conv.input().w(),
                )
                .dtype(self.dtype.unwrap_or(conv.input().dtype()))
                .layout(self.layout.unwrap_or(conv.input().layout()))
                .filter_layout(self.filter_layout.unwrap_or(conv.filter().layout))
                .math(self.math.unwrap_or(conv.math()))
                .build()
                .map(Problem::Conv),
            Problem::Pool(pool) => pool
                .with_batch(self.batch.unwrap_or(pool.input().n()))?
                .to_builder()
                .dtype(self.dtype.unwrap_or(pool.input().dtype()))
                .layout(self.layout.unwrap_or(pool.input().layout()))
                .build()
                .map(Problem::Pool),
        }
    }
}

impl Listed {
    /// Text for display: the notation, and its name if it has one.
    pub fn title(&self) -> String {
        let problem = match &self.problem {
            Problem::Conv(conv) => conv.to_string(),
            Problem::Pool(pool) => pool.to_string(),
        };
        match &self.name {
            Some(name) => format!("{problem} ({name})"),
            None => problem,
        }
    }

    /// Multiplications, or for a pooling the elements of its windows.
    pub fn work(&self) -> u64 {
        match &self.problem {
            Problem::Conv(conv) => conv.macs(),
            Problem::Pool(pool) => (pool.output().elements() as u64)
                .saturating_mul((pool.window().kernel[0] * pool.window().kernel[1]) as u64),
        }
    }
}

/// Reads every text: a file if one of that name exists, a line of one for `FILE:LINE`, else a
/// problem.
pub fn read(args: &ProblemsArgs) -> Result<Vec<Listed>, Failure> {
    let changes = &Changes {
        batch: args.batch,
        dtype: args.dtype.map(Into::into),
        layout: args.layout.map(Into::into),
        filter_layout: args.filter_layout.map(Into::into),
        math: args.math.map(Into::into),
    };
    let mut all = Vec::new();
    for text in &args.problems {
        let path = Path::new(text);
        if path.is_dir() {
            return Err(Failure::Input(format!(
                "{text}: a folder; give a shape file or a problem"
            )));
        }
        // A path that exists but is not a regular file is rejected on reading, with a message.
        if path.exists() {
            from_file(path, None, changes, &mut all)?;
        } else if let Some((file, line)) = file_and_line(path) {
            from_file(&file, Some(line), changes, &mut all)?;
        } else {
            all.push(one(text, text.clone(), changes)?);
        }
    }
    Ok(all)
}

/// Reads the problems of a shape file, or of one line.
fn from_file(
    file: &Path,
    line: Option<usize>,
    changes: &Changes,
    all: &mut Vec<Listed>,
) -> Result<(), Failure> {
    let before = all.len();
    for shape in shape_lines(file)? {
        if line.is_none_or(|line| line == shape.line) {
            let label = format!("{}:{}", file.display(), shape.line);
            all.push(one(&shape.text, label, changes)?);
        }
    }
    if all.len() > before {
        return Ok(());
    }
    let place = line.map_or(String::new(), |line| format!(" on line {line}"));
    Err(Failure::Input(format!(
        "{}: no problem{place}",
        file.display()
    )))
}

/// Parses the problem of a text.
fn one(text: &str, label: String, changes: &Changes) -> Result<Listed, Failure> {
    let named = notation::parse(text).map_err(|error| {
        let file = if text.contains(['/', '\\']) {
            " (and no file of that name)"
        } else {
            ""
        };
        Failure::Input(format!("{label}: {error}{file}"))
    })?;
    for warning in &named.warnings {
        warn(format_args!("{label}: {warning}"));
    }
    let problem = changes
        .apply(named.problem)
        .map_err(|error| Failure::Input(format!("{label}: {error}")))?;
    Ok(Listed {
        label,
        name: named.name,
        problem,
    })
}
