use std::os::unix::fs::PermissionsExt;

use super::*;

/// A folder of its own for a test, with empty files at the given paths.
fn tree(test: &str, files: &[&str]) -> PathBuf {
    let root = std::env::temp_dir().join(format!("warpconv-{}-{test}", std::process::id()));
    let _absent = fs::remove_dir_all(&root);
    fs::create_dir_all(&root).unwrap();
    for file in files {
        let file = root.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    root
}

/// Files below the root, as the tree named them.
fn names(root: &Path, files: &[PathBuf]) -> Vec<String> {
    let below = |file: &PathBuf| file.strip_prefix(root).unwrap().display().to_string();
    files.iter().map(below).collect()
}

fn found(root: &Path, search: &Search) -> Vec<String> {
    let files: Vec<PathBuf> = search
        .locations
        .iter()
        .map(|location| location.file.clone())
        .collect();
    names(root, &files)
}

#[test]
fn environments_are_searched_in_order() {
    let files = [
        "venv/lib/python3.12/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
        "conda/lib/libcudnn.so.9",
        "home/.local/lib/python3.10/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
        "usr/local/lib/python3.11/dist-packages/nvidia/cu13/lib/libcudnn.so.9",
        "usr/local/lib/python3.11/dist-packages/torch/lib/libcudnn.so.9",
        "opt/conda/lib/python3.9/site-packages/nvidia/cudnn/lib/libcudnn.so.9",
        "usr/local/cuda-13.0/lib64/libcudnn.so.9",
        "usr/lib/python3/dist-packages/nvidia/cudnn/lib/libcudnn.so.8",
    ];
    let root = tree("order", &files);
    let search = Search::new(&Surroundings {
        environments: vec![root.join("venv"), root.join("conda")],
        path: Vec::new(),
        home: Some(root.join("home")),
        root: root.clone(),
    });
    assert_eq!(
        found(&root, &search),
        [
            files[0], files[1], files[2], files[3], files[4], files[5], files[6],
        ]
    );
    let text = search.to_string();
    assert!(text.contains("usr/lib/python3/dist-packages"), "{text}");
    assert!(!text.contains("nowhere"));
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn dependencies_are_those_of_cudnns_cuda() {
    let site = "venv/lib/python3.12/site-packages";
    let files = [
        "nvidia/cudnn/lib/libcudnn.so.9",
        "nvidia/cudnn/lib/libcudnn_ops.so.9",
        "nvidia/cublas/lib/libcublas.so.12",
        "nvidia/cublas/lib/libcublasLt.so.12",
        "nvidia/cuda_nvrtc/lib/libnvrtc.so.12",
        "nvidia/cuda_nvrtc/lib/libnvrtc-builtins.so.12.8",
        "nvidia/cuda_nvrtc/lib/libnvrtc.alt.so.12",
        "nvidia/cu13/lib/libcublas.so.13",
        "nvidia/cu13/lib/libcublasLt.so.13",
        "nvidia/cu13/lib/libnvrtc.so.13",
        "nvidia_cudnn_cu13-9.14.0.dist-info/METADATA",
    ];
    let files = files.map(|file| format!("{site}/{file}"));
    let root = tree("cuda", &files.each_ref().map(|file| &file[..]));
    let nvidia = root.join(site).join("nvidia");
    let of = |file: &str| {
        let dependencies = Location::of(nvidia.join(file)).dependencies;
        names(&nvidia, &dependencies)
    };
    assert_eq!(
        of("cudnn/lib/libcudnn.so.9"),
        [
            "cu13/lib/libcublasLt.so.13",
            "cu13/lib/libcublas.so.13",
            "cu13/lib/libnvrtc.so.13",
        ]
    );
    fs::rename(
        root.join(site).join("nvidia_cudnn_cu13-9.14.0.dist-info"),
        root.join(site)
            .join("nvidia_cudnn_cu12-9.10.2.21.dist-info"),
    )
    .unwrap();
    assert_eq!(
        of("cudnn/lib/libcudnn.so.9"),
        [
            "cublas/lib/libcublasLt.so.12",
            "cublas/lib/libcublas.so.12",
            "cuda_nvrtc/lib/libnvrtc-builtins.so.12.8",
            "cuda_nvrtc/lib/libnvrtc.so.12",
        ]
    );
    // A folder of one CUDA version has its own, whatever the package says.
    assert_eq!(
        of("cu13/lib/libcudnn.so.9")[0],
        "cu13/lib/libcublasLt.so.13"
    );
    fs::remove_dir_all(&root).unwrap();
}

#[test]
fn a_name_is_a_file_or_a_folder_above_it() {
    let files = [
        "site/nvidia/cudnn/lib/libcudnn.so.9",
        "site/nvidia/cublas/lib/libcublas.so.12",
        "plain/lib64/libcudnn.so.9",
        "plain/lib64/libcublasLt.so.12.1",
        "plain/lib64/libcublasLt.so.12",
        "empty/readme",
    ];
    let root = tree("named", &files);
    let site = named(&root.join("site")).unwrap();
    assert_eq!(names(&root, &[site.file]), [files[0]]);
    assert_eq!(names(&root, &site.dependencies), [files[1]]);
    let plain = named(&root.join("plain")).unwrap();
    assert_eq!(names(&root, std::slice::from_ref(&plain.file)), [files[2]]);
    assert_eq!(names(&root, &plain.dependencies), [files[4]]);
    assert_eq!(named(&plain.file), Ok(plain));
    let why = named(&root.join("empty")).unwrap_err();
    assert!(why.contains("there is no libcudnn.so.9 in"), "{why}");
    let why = named(&root.join("nowhere")).unwrap_err();
    assert!(
        why.starts_with("there is no ") && why.ends_with("nowhere"),
        "{why}"
    );
    fs::remove_dir_all(&root).unwrap();
}

/// A python3 that is a script, as pyenv's shims are, prints its search path; one that hangs is
/// given up.
#[test]
fn the_python_on_the_path_is_asked() {
    let file = "pyenv/site-packages/nvidia/cudnn/lib/libcudnn.so.9";
    let root = tree("python", &[file, "bin/python3", "slow/python3"]);
    let script = |name: &str, text: &str| {
        let file = root.join(name);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    };
    let site = root.join("pyenv/site-packages");
    let answer = format!(
        "#!/bin/sh\necho\necho relative\necho '{}'\n",
        site.display()
    );
    script("bin/python3", &answer);
    let search = Search::new(&Surroundings {
        path: vec![root.join("nowhere"), root.join("bin")],
        root: root.join("nothing"),
        ..Surroundings::default()
    });
    assert_eq!(found(&root, &search), [file]);
    let slow = script("slow/python3", "#!/bin/sh\nsleep 20\n");
    let start = Instant::now();
    assert_eq!(
        search_path(&slow, Duration::from_millis(200)),
        Vec::<PathBuf>::new()
    );
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    fs::remove_dir_all(&root).unwrap();
}
