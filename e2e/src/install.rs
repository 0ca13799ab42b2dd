//! Decree itself on a bed: its binaries built, its images brought to the nodes, its charts installed with Helm.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::Bed;
pub use crate::cluster::{OPERATOR as RELEASE, OPERATORS_NAMESPACE as NAMESPACE};
use crate::finish::finish_silently;
use crate::images::{self, Image};
use crate::parts::progress::Progress;

/// Cargo's profile of what tests run, and where its binaries are.
const FOR_TESTS: &str = "debug";
/// The one of what users get.
const FOR_USERS: &str = "dist";
/// Every test, on a machine that is busy with other things, takes less.
const RUN_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// The root of the checkout that this program was built from.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where compiled crates are kept: outside the work tree, so that the next clone finds them, one folder a compiler.
/// Cargo itself knows by what went into them which of them it may use.
pub fn target_directory(bed: &Bed) -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty()) {
        return Ok(chosen.into());
    }
    let output = Command::new("rustc")
        .arg("-V")
        .current_dir(workspace())
        .output()
        .context("ask rustc for its version")?;
    ensure!(output.status.success(), "rustc -V failed");
    let version =
        String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    Ok(bed.parts.cache().join("target").join(version))
}

/// Installs and builds what everything else needs: compilers and libraries first of all.
pub fn prepare(bed: &Bed, progress: &Progress) -> Result<()> {
    bed.parts.ensure(progress)
}

/// A cargo command in the workspace.
pub fn cargo(bed: &Bed, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace()).env("CARGO_TARGET_DIR", target_directory(bed)?);
    // Of the cargo that started this program: its manifest's folder is not the one that the next is about.
    for (name, _) in std::env::vars()
        .filter(|(name, _)| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    {
        command.env_remove(name);
    }
    Ok(command)
}

/// Runs a command, whose output a person sees, to its end.
pub fn check(command: &mut Command, what: &str) -> Result<()> {
    let status = finish_silently(what, command, RUN_LIMIT)?;
    ensure!(status.success(), "{what} failed ({status}); what it printed stands above");
    Ok(())
}

/// Compiles what runs in the cluster. Cargo's own progress is shown.
pub fn build(bed: &Bed, progress: &Progress) -> Result<()> {
    let packages = ["-p", "decree-operator", "-p", "decree-sidecar", "-p", "decree-e2e", "--bins"];
    progress.step("compiling Decree", None, || {
        check(&mut cargo(bed, &[&["build", "--locked", "--quiet"], &packages[..]].concat())?, "cargo build")
    })
}

/// Compiles one package as users get it, and gives the program: another profile measures another one.
pub fn build_for_users(bed: &Bed, package: &str, progress: &Progress) -> Result<PathBuf> {
    progress.step(&format!("compiling {package} as users get it"), None, || {
        let arguments = ["build", "--locked", "--quiet", "--profile", FOR_USERS, "--package", package];
        check(&mut cargo(bed, &arguments)?, "cargo build")
    })?;
    Ok(target_directory(bed)?.join(FOR_USERS).join(package))
}

/// Brings the images of this checkout, and those of the applications, to every node of a running bed.
pub fn load_images(bed: &Bed, progress: &Progress) -> Result<()> {
    let binaries = target_directory(bed)?.join(FOR_TESTS);
    progress.step("bringing images to the nodes", None, || {
        images::load(bed, &operator_image(bed, FOR_TESTS)?)?;
        let sidecar = workspace().join("sidecar/Containerfile");
        images::load(
            bed,
            &Image::of_containerfile(&bed.image("sidecar"), &sidecar, &binaries.join("decree-sidecar"))?,
        )?;
        for (image, binary) in [
            ("recorder", binaries.join("recorder")),
            ("counter", binaries.join("counter")),
            ("door", binaries.join("door")),
            ("opa", bed.parts.opa_binary()),
        ] {
            images::load(bed, &Image::of_binary(&bed.image(image), &binary)?)?;
        }
        Ok(())
    })
}

fn operator_image(bed: &Bed, profile: &str) -> Result<Image> {
    let binary = target_directory(bed)?.join(profile).join("decree-operator");
    Image::of_containerfile(&bed.image("operator"), &workspace().join("operator/Containerfile"), &binary)
}

/// What `helm install decree` is given on a bed, beside the chart.
pub fn values(bed: &Bed) -> Vec<String> {
    let image = |key: &str, name: &str| {
        let image = bed.image(name);
        let (repository, tag) = image.rsplit_once(':').unwrap_or((&image, "latest"));
        [format!("{key}.repository={repository}"), format!("{key}.tag={tag}")]
    };
    [image("image", "operator"), image("sidecar.image", "sidecar")].concat()
}

/// Installs or upgrades both charts and waits until the operator is ready.
pub fn helm(bed: &Bed, progress: &Progress) -> Result<()> {
    helm_of(bed, FOR_TESTS, progress)
}

/// The same with the operator as users get it, and nothing beside it: compiled, brought to the nodes, installed.
pub fn operator_for_users(bed: &Bed, progress: &Progress) -> Result<()> {
    build_for_users(bed, "decree-operator", progress)?;
    progress.step("bringing its image to the nodes", None, || {
        images::load(bed, &operator_image(bed, FOR_USERS)?)
    })?;
    helm_of(bed, FOR_USERS, progress)
}

fn helm_of(bed: &Bed, profile: &str, progress: &Progress) -> Result<()> {
    let charts = workspace().join("charts");
    let chart = |name: &str| charts.join(name).display().to_string();
    progress.step("installing Decree with Helm", None, || {
        let place = ["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "180s"];
        let (crds, decree) = (chart("decree-crds"), chart("decree"));
        bed.helm(&[&["upgrade", "--install", "decree-crds", &crds][..], &place].concat())?;
        let mut values = values(bed);
        if bed.as_foreign().is_none() {
            // The same tag may name another image than before: a template that says which makes the Deployment roll.
            let image = operator_image(bed, profile)?.digest();
            values.push(format!("podAnnotations.image=sha256-{image}"));
        }
        let set: Vec<&str> = values.iter().flat_map(|value| ["--set", value.as_str()]).collect();
        bed.helm(&[&["upgrade", "--install", RELEASE, &decree][..], &place, &set].concat())?;
        Ok(())
    })
}
