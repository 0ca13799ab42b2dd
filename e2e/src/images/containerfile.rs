//! What the last stage of a Containerfile says of an image: the same file makes the image of a user and of a test cluster.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// The one instruction that may fill the image, after `root.sh` has made the directory.
const COPY: &str = "--from=build /root-of-image/ /";

/// How an image runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Containerfile {
    pub(super) user: String,
    pub(super) entrypoint: Vec<String>,
}

impl Containerfile {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    /// An instruction that is not known here would make another image than the one that is tested, and is refused.
    fn parse(text: &str) -> Result<Self> {
        let (build, last) =
            text.rsplit_once("\nFROM scratch\n").context("find the last stage, FROM scratch")?;
        let (mut user, mut entrypoint, mut copied) = (None, None, false);
        for line in last.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("COPY", COPY) => copied = true,
                ("USER", name) => user = Some(name.to_owned()),
                ("ENTRYPOINT", words) => {
                    entrypoint = Some(serde_json::from_str::<Vec<String>>(words).context("read ENTRYPOINT")?);
                }
                _ => bail!("{line:?} is not understood"),
            }
        }
        ensure!(copied, "nothing is copied into the image");
        let entrypoint = entrypoint.context("find ENTRYPOINT")?;
        let program = entrypoint.first().map(|path| path.trim_start_matches('/')).unwrap_or_default();
        let made = format!("RUN sh e2e/src/images/root.sh target/dist/{program} /root-of-image");
        ensure!(build.lines().any(|line| line == made), "the build stage has no line {made:?}");
        Ok(Self { user: user.context("find USER")?, entrypoint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
FROM rust AS build
RUN sh e2e/src/images/root.sh target/dist/decree-x /root-of-image

FROM scratch
# Everything.
COPY --from=build /root-of-image/ /
USER 65532:65532
ENTRYPOINT [\"/decree-x\"]
";

    #[test]
    fn the_last_stage_says_how_the_image_runs() {
        let read = Containerfile::parse(GOOD).unwrap();
        assert_eq!(read, Containerfile { user: "65532:65532".into(), entrypoint: vec!["/decree-x".into()] });
    }

    #[test]
    fn what_would_make_another_image_is_refused() {
        for (part, instead) in [
            ("COPY --from=build /root-of-image/ /", "COPY . /"),
            ("USER 65532:65532\n", ""),
            ("USER 65532:65532\n", "USER 65532:65532\nENV A=b\n"),
            ("[\"/decree-x\"]", "[\"/decree-y\"]"),
            ("FROM scratch", "FROM debian"),
        ] {
            assert!(GOOD.contains(part));
            Containerfile::parse(&GOOD.replace(part, instead)).unwrap_err();
        }
    }
}
