//! `cargo xtask ptx`: the text of stored modules.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use ptx_archive::{Archive, Entry, unpack};

use crate::{Failure, root, work};

#[derive(Args)]
pub struct Options {
    /// Write `<DIR>/<NAME>.ptx`; without it, one module is printed
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print size and time to unpack of each module instead of its text
    #[arg(long, conflicts_with = "out")]
    list: bool,
    /// Parts of names; none means all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let entries = entries(&options.names)?;
    match &options.out {
        _ if options.list => list(&entries),
        Some(folder) => {
            write_texts(&entries, folder)?;
            println!("{} modules in {}", entries.len(), folder.display());
            Ok(())
        }
        None => match &entries[..] {
            [entry] => {
                print!("{}", text(entry)?);
                Ok(())
            }
            several => {
                let exact = several.iter().find(|entry| options.names == [&*entry.id]);
                let exact = exact.ok_or("several modules: name one, or a folder with --out")?;
                print!("{}", text(exact)?);
                Ok(())
            }
        },
    }
}

/// The archives in kernels/prebuilt with their file names.
pub fn archives() -> Result<Vec<(String, Archive)>, Failure> {
    let folder = root().join("kernels/prebuilt");
    let cannot =
        |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut archives = Vec::new();
    for file in fs::read_dir(&folder).map_err(|error| cannot(&folder, &error))? {
        let path = file.map_err(|error| cannot(&folder, &error))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "ptxa")
        {
            let bytes = fs::read(&path).map_err(|error| cannot(&path, &error))?;
            let archive = Archive::parse(&bytes).map_err(|error| cannot(&path, &error))?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            archives.push((name.into_owned(), archive));
        }
    }
    archives.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(archives)
}

/// The stored modules whose names contain one of `parts`, all if there is none.
pub fn entries(parts: &[String]) -> Result<Vec<Entry>, Failure> {
    let wanted =
        |entry: &Entry| parts.is_empty() || parts.iter().any(|part| entry.id.contains(part));
    let all = archives()?
        .into_iter()
        .flat_map(|(_, archive)| archive.entries);
    let entries: Vec<Entry> = all.filter(wanted).collect();
    match entries.is_empty() {
        true => Err(format!("no stored module is named {}", parts.join(" or "))),
        false => Ok(entries),
    }
}

/// Writes a file per module.
pub fn write_texts(entries: &[Entry], folder: &Path) -> Result<(), Failure> {
    let cannot = |error: std::io::Error| format!("cannot write {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(cannot)?;
    for entry in entries {
        fs::write(folder.join(format!("{}.ptx", entry.id)), text(entry)?).map_err(cannot)?;
    }
    Ok(())
}

/// Unpacks all modules into a folder that has nothing else, and returns it.
pub fn fresh_folder(parts: &[String]) -> Result<PathBuf, Failure> {
    let folder = work().join("ptx");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .map_err(|error| format!("cannot remove {}: {error}", folder.display()))?;
    }
    write_texts(&entries(parts)?, &folder)?;
    Ok(folder)
}

fn text(entry: &Entry) -> Result<String, Failure> {
    entry
        .text()
        .ok_or_else(|| format!("the stored module {} is damaged", entry.id))
}

/// The best of ten unpackings per module: other work on the machine only adds time.
fn list(entries: &[Entry]) -> Result<(), Failure> {
    let mut total = (0, 0, 0.0, 0.0f64);
    println!("{:58} {:>8} {:>8} {:>7}", "module", "text", "packed", "ms");
    for entry in entries {
        let text = text(entry)?.len();
        let time = || {
            let start = Instant::now();
            let unpacked = unpack(&entry.packed);
            (unpacked.is_some(), start.elapsed().as_secs_f64() * 1e3)
        };
        let best = (0..10).map(|_| time().1).fold(f64::INFINITY, f64::min);
        println!(
            "{:58} {text:8} {:8} {best:7.3}",
            entry.id,
            entry.packed.len()
        );
        total = (
            total.0 + text,
            total.1 + entry.packed.len(),
            total.2 + best,
            total.3.max(best),
        );
    }
    let (text, packed, all, worst) = total;
    println!(
        "{text} bytes packed to {packed}; {all:.1} ms to unpack all, {worst:.2} ms the slowest"
    );
    Ok(())
}
