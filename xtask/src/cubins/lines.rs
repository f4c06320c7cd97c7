//! PTX with source lines, as like the stored PTX as it can be.

use std::path::Path;

use crate::Failure;

/// The least PTX version whose `.loc` names inlined functions.
const INLINED: (u32, u32) = (7, 2);

/// Makes of nvcc's PTX with source lines a text that assembles as the stored one does: hints are
/// dropped, `.version` is the stored one or the least that inlined lines need, and the names of
/// files are relative to the repository (`kernels/...`), or to the toolkit's headers (`cuda/...`).
pub fn tidy(raw: &str, stored: &str, kernels: &Path) -> Result<String, Failure> {
    let version = stored.lines().find_map(|line| {
        let (major, minor) = line.strip_prefix(".version ")?.trim().split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    let version = version.ok_or("the stored module names no version")?;
    let (major, minor) = INLINED.max(version);
    let mut text = String::with_capacity(raw.len());
    for line in raw.lines() {
        let body = line.trim_start();
        if body.starts_with(".version ") {
            text.push_str(&format!(".version {major}.{minor}"));
        } else if body.starts_with(".file") {
            text.push_str(&file(body, kernels).ok_or_else(|| format!("no name in `{body}`"))?);
        } else if !body.starts_with(".pragma \"used_bytes_mask") {
            text.push_str(line);
        }
        text.push('\n');
    }
    Ok(text)
}

/// `.file 2 "kernels/types.cuh"` of `.file 2 "/somewhere/kernels/./types.cuh"`.
fn file(line: &str, kernels: &Path) -> Option<String> {
    let (start, rest) = line.split_once('"')?;
    let (name, _) = rest.split_once('"')?;
    let path = Path::new(name);
    let name = match path.strip_prefix(kernels) {
        // Without the `.` of `-I.`.
        Ok(inside) => {
            Path::new("kernels").join(inside.components().collect::<std::path::PathBuf>())
        }
        Err(_) => Path::new("cuda").join(path.file_name()?),
    };
    Some(format!("{}\"{}\"", start.trim_start(), name.to_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_relative_and_versions_those_of_the_stored_text() {
        let raw = ".version 9.0\n.target sm_75\n\t.loc\t2 3 0\n\
                   \t.pragma \"used_bytes_mask 3\";\n\tret;\n\
                   \t.file\t1 \"/a b/kernels/mma/mma.cu\"\n\
                   \t.file\t2 \"/a b/kernels/./types.cuh\"\n\
                   \t.file\t3 \"/usr/cuda/bin/../include/cuda_fp16.hpp\"\n";
        for (stored, version) in [("6.3", "7.2"), ("7.8", "7.8"), ("8.0", "8.0")] {
            let stored = format!(".version {stored}\n.target sm_75\n");
            assert_eq!(
                tidy(raw, &stored, Path::new("/a b/kernels")).unwrap(),
                format!(
                    ".version {version}\n.target sm_75\n\t.loc\t2 3 0\n\n\tret;\n\
                     .file\t1 \"kernels/mma/mma.cu\"\n\
                     .file\t2 \"kernels/types.cuh\"\n\
                     .file\t3 \"cuda/cuda_fp16.hpp\"\n"
                )
            );
        }
        assert!(tidy(raw, "", Path::new("/a b/kernels")).is_err());
    }
}
