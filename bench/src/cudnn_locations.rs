//! The locations where users have cuDNN 9: Python environments, conda, CUDA toolkits. Nothing is
//! loaded here, and nothing is written.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Name of the library's file.
pub const FILE: &str = "libcudnn.so.9";

/// Libraries that cuDNN opens by their names when it needs them, in the order in which they are
/// loaded. The loader takes one that is loaded already, wherever it lies.
const DEPENDENCIES: [&str; 5] = [
    "libnvJitLink",
    "libcublasLt",
    "libcublas",
    "libnvrtc-builtins",
    "libnvrtc",
];

/// Time limit of the Python that is asked for its search path.
const PYTHON_LIMIT: Duration = Duration::from_secs(5);

/// A file of cuDNN with the libraries that it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The library's file.
    pub file: PathBuf,
    /// Files of cuBLAS, NVRTC and what they need, in the order in which they are to be loaded.
    pub dependencies: Vec<PathBuf>,
}

impl Location {
    /// The location of a file: its dependencies lie beside it and, in a Python environment, in the
    /// sibling folders `nvidia/*/lib`.
    pub fn of(file: PathBuf) -> Location {
        let own = file.parent().unwrap_or(Path::new("")).to_owned();
        let mut folders = vec![own.clone()];
        let mut major = None;
        if let Some(site) = site_of(&own) {
            folders.extend(nvidia_libs(&site));
            major = cuda_folder(&own).or_else(|| cuda_of_package(&site));
        }
        let dependencies = DEPENDENCIES
            .iter()
            .filter_map(|name| folders.iter().find_map(|dir| library(dir, name, major)))
            .collect();
        Location { file, dependencies }
    }
}

/// The location that a user named by a file, or by a folder: that of the library, or one above it.
pub fn named(path: &Path) -> Result<Location, String> {
    if path.is_file() {
        return Ok(Location::of(path.to_owned()));
    }
    let mut folders = vec![path.to_owned(), path.join("lib"), path.join("lib64")];
    folders.extend(nvidia_libs(path));
    for folder in &folders {
        if folder.join(FILE).is_file() {
            return Ok(Location::of(folder.join(FILE)));
        }
    }
    match path.is_dir() {
        true => Err(format!(
            "there is no {FILE} in {0}, {0}/lib, {0}/lib64 or {0}/nvidia/*/lib",
            path.display()
        )),
        false => Err(format!("there is no {}", path.display())),
    }
}

/// What the search depends on.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Active environments: `VIRTUAL_ENV`, `CONDA_PREFIX`.
    pub environments: Vec<PathBuf>,
    /// Folders of `PATH`, whose first python3 is asked for its search path.
    pub path: Vec<PathBuf>,
    /// The user's folder.
    pub home: Option<PathBuf>,
    /// The root of the file system.
    pub root: PathBuf,
}

impl Surroundings {
    /// Those of the process.
    pub fn of_process() -> Surroundings {
        let folder = |name| std::env::var_os(name).filter(|v| !v.is_empty());
        let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"];
        let path = folder("PATH").unwrap_or_default();
        Surroundings {
            environments: environments
                .into_iter()
                .filter_map(folder)
                .map(PathBuf::from)
                .collect(),
            path: std::env::split_paths(&path).collect(),
            home: folder("HOME").map(PathBuf::from),
            root: PathBuf::from("/"),
        }
    }
}

/// Result of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// The locations found, the most probable first.
    pub locations: Vec<Location>,
    /// The folders that were looked through.
    pub looked: Vec<PathBuf>,
}

impl Search {
    /// Looks through the active environments, the environment of the python3 on the path, and the
    /// usual ones.
    pub fn new(around: &Surroundings) -> Search {
        let mut search = Search::default();
        for prefix in &around.environments {
            search.prefix(prefix);
        }
        if let Some(python) = executable(&around.path, "python3") {
            // A python behind links; shims, such as pyenv's, are scripts: they answer themselves.
            let behind = fs::canonicalize(&python).ok();
            if let Some(prefix) = behind.as_deref().and_then(|file| file.parent()?.parent()) {
                search.prefix(prefix);
            }
            for site in search_path(&python, PYTHON_LIMIT) {
                search.site(&site);
            }
        }
        if let Some(home) = &around.home {
            for folder in [".local", "miniconda3", "anaconda3", "miniforge3"] {
                search.prefix(&home.join(folder));
            }
        }
        for folder in ["usr/local", "usr", "opt/conda"] {
            search.prefix(&around.root.join(folder));
        }
        search.site(&around.root.join("usr/lib/python3/dist-packages"));
        for toolkit in subfolders(&around.root.join("usr/local"), "cuda") {
            search.folder(&toolkit.join("lib64"));
            search.folder(&toolkit.join("targets/x86_64-linux/lib"));
        }
        search.folder(&around.root.join("usr/lib/x86_64-linux-gnu"));
        search
    }

    /// An environment's folders: conda's libraries, and the packages of its Pythons.
    fn prefix(&mut self, prefix: &Path) {
        let lib = prefix.join("lib");
        for python in subfolders(&lib, "python3") {
            self.site(&python.join("site-packages"));
            self.site(&python.join("dist-packages"));
        }
        self.folder(&lib);
    }

    /// A folder of Python packages: NVIDIA's, and those that PyTorch brings.
    fn site(&mut self, site: &Path) {
        for lib in nvidia_libs(site) {
            self.folder(&lib);
        }
        self.folder(&site.join("torch/lib"));
        self.note(site);
    }

    /// A folder that may hold the library.
    fn folder(&mut self, folder: &Path) {
        self.note(folder);
        let file = folder.join(FILE);
        if file.is_file() && !self.locations.iter().any(|location| location.file == file) {
            self.locations.push(Location::of(file));
        }
    }

    fn note(&mut self, folder: &Path) {
        if folder.is_dir() && !self.looked.iter().any(|known| known == folder) {
            self.looked.push(folder.to_owned());
        }
    }
}

impl fmt::Display for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, folder) in self.looked.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", folder.display())?;
        }
        Ok(())
    }
}

/// The subfolders whose names begin with `start`, in order.
fn subfolders(folder: &Path, start: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found
}

/// The folders `nvidia/*/lib` of a folder of packages: cuDNN's, cuBLAS's and NVRTC's first.
fn nvidia_libs(site: &Path) -> Vec<PathBuf> {
    const FIRST: [&str; 3] = ["cudnn", "cublas", "cuda_nvrtc"];
    let mut packages = subfolders(&site.join("nvidia"), "");
    packages.sort_by_key(|package| {
        let name = package.file_name().unwrap_or_default();
        let rank = FIRST.iter().position(|first| name == OsStr::new(first));
        rank.unwrap_or(FIRST.len())
    });
    let libs = packages.iter().map(|package| package.join("lib"));
    libs.filter(|lib| lib.is_dir()).collect()
}

/// The folder of packages that a folder `nvidia/*/lib` belongs to.
fn site_of(lib: &Path) -> Option<PathBuf> {
    let nvidia = lib.parent()?.parent()?;
    let is_site = lib.file_name()? == "lib" && nvidia.file_name()? == "nvidia";
    is_site.then(|| nvidia.parent().map(Path::to_owned))?
}

/// CUDA's major version by the folder's name: 13 of `nvidia/cu13/lib`.
fn cuda_folder(lib: &Path) -> Option<u32> {
    let package = lib.parent()?.file_name()?.to_str()?;
    package.strip_prefix("cu")?.parse().ok()
}

/// CUDA's major version by the name of cuDNN's package: 12 of `nvidia_cudnn_cu12-9.10.2.dist-info`.
fn cuda_of_package(site: &Path) -> Option<u32> {
    let packages = subfolders(site, "nvidia_cudnn_cu");
    let name = packages.first()?.file_name()?.to_str()?;
    let rest = name.strip_prefix("nvidia_cudnn_cu")?;
    rest.split('-').next()?.parse().ok()
}

/// The file of a library in a folder: `libcublas.so.12` before `libcublas.so.12.9.1`, and only that
/// of CUDA's version `major` if it is known.
fn library(folder: &Path, name: &str, major: Option<u32>) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| {
            let file = entry.file_name();
            let version = file
                .to_str()
                .and_then(|file| file.strip_prefix(name)?.strip_prefix(".so."));
            let of = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
            of.is_some_and(|of| major.is_none_or(|major| of == major))
        })
        .map(|entry| entry.path())
        .collect();
    // Of several versions the newest, by its shortest name.
    files.sort_by_key(|file| {
        let name = file.file_name().unwrap_or_default().to_owned();
        (name.len(), std::cmp::Reverse(name))
    });
    files.into_iter().next()
}

/// The first file of that name in the folders of a path.
fn executable(path: &[PathBuf], name: &str) -> Option<PathBuf> {
    let mut files = path.iter().map(|folder| folder.join(name));
    files.find(|file| file.is_file())
}

/// The folders of a Python's search path; none if it does not print them within the limit. The
/// Python is told to write no compiled files.
fn search_path(python: &Path, limit: Duration) -> Vec<PathBuf> {
    const SCRIPT: &str = "import sys; print('\\n'.join(sys.path))";
    let spawned = Command::new(python)
        .args(["-B", "-c", SCRIPT])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = spawned else {
        return Vec::new();
    };
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let read = output.map(|mut output| output.read_to_string(&mut text));
        read.and_then(Result::ok).map(|_| text)
    });
    let start = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(10)),
            _ => break false,
        }
    };
    if !ended {
        // A child of the shim may hold the pipe open: its reader is left behind.
        let _killed = child.kill();
        let _reaped = child.wait();
        return Vec::new();
    }
    let text = reader.join().ok().flatten().unwrap_or_default();
    let folders = text.lines().map(PathBuf::from);
    folders.filter(|folder| folder.is_absolute()).collect()
}

#[cfg(test)]
mod tests;
