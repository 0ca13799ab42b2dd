//! Parts that are Go programs, each with a `go.mod` and `go.sum` of its own in `e2e/bed`.

use std::process::Command;

use anyhow::Result;

use super::cache::{Order, Recipe};

/// One Go module of the bed's and the commands that it builds.
#[derive(Debug)]
pub(super) struct GoPart {
    name: &'static str,
    version: &'static str,
    module: &'static str,
    sums: &'static str,
    packages: &'static [&'static str],
    /// The binary's name; empty where the packages' own names will do.
    binary: &'static str,
    /// Variables that the linker sets, mostly versions: clients decide by them.
    variables: &'static [(&'static str, &'static str)],
}

pub(super) const KUBERNETES: GoPart = GoPart {
    name: "kubernetes",
    version: "1.34.4",
    module: include_str!("../../bed/kubernetes/go.mod"),
    sums: include_str!("../../bed/kubernetes/go.sum"),
    packages: &[
        "k8s.io/kubernetes/cmd/kube-apiserver",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-proxy",
        "k8s.io/kubernetes/cmd/kube-scheduler",
        "k8s.io/kubernetes/cmd/kubectl",
        "k8s.io/kubernetes/cmd/kubelet",
    ],
    binary: "",
    variables: &[
        ("k8s.io/component-base/version.gitVersion", "v1.34.4"),
        ("k8s.io/component-base/version.gitMajor", "1"),
        ("k8s.io/component-base/version.gitMinor", "34"),
    ],
};

pub(super) const ETCD: GoPart = GoPart {
    name: "etcd",
    version: "3.7.3",
    module: include_str!("../../bed/etcd/go.mod"),
    sums: include_str!("../../bed/etcd/go.sum"),
    packages: &["go.etcd.io/etcd/server/v3"],
    binary: "etcd",
    variables: &[],
};

pub(super) const HELM: GoPart = GoPart {
    name: "helm",
    version: "3.19.0",
    module: include_str!("../../bed/helm/go.mod"),
    sums: include_str!("../../bed/helm/go.sum"),
    packages: &["helm.sh/helm/v3/cmd/helm"],
    binary: "helm",
    variables: &[
        ("helm.sh/helm/v3/internal/version.version", "v3.19.0"),
        // What `helm template` and `helm lint` take for the cluster's version.
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor", "1"),
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor", "34"),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor", "1"),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor", "34"),
    ],
};

pub(super) const COREDNS: GoPart = GoPart {
    name: "coredns",
    version: "1.12.4",
    module: include_str!("../../bed/coredns/go.mod"),
    sums: include_str!("../../bed/coredns/go.sum"),
    packages: &["github.com/coredns/coredns"],
    binary: "coredns",
    variables: &[],
};

pub(super) const OPA: GoPart = GoPart {
    name: "opa",
    version: "1.22.2",
    module: include_str!("../../bed/opa/go.mod"),
    sums: include_str!("../../bed/opa/go.sum"),
    packages: &["github.com/open-policy-agent/opa"],
    binary: "opa",
    variables: &[],
};

impl GoPart {
    pub(super) fn recipe(&self) -> Recipe {
        let mut flags = self.flags();
        flags.extend(self.packages.iter().map(|package| (*package).to_owned()));
        let files = vec![("go.mod", self.module), ("go.sum", self.sums)];
        Recipe { name: self.name, version: self.version, files, flags }
    }

    fn flags(&self) -> Vec<String> {
        let variables: String =
            self.variables.iter().map(|(name, value)| format!(" -X {name}={value}")).collect();
        let fixed = ["-v", "-mod=readonly", "-trimpath", "-buildvcs=false"].map(str::to_owned);
        fixed.into_iter().chain([format!("-ldflags=-s -w{variables}")]).collect()
    }

    pub(super) fn build(&self, order: &Order<'_>) -> Result<()> {
        let mut command = Command::new("go");
        command.arg("build").args(self.flags()).arg("-o").arg(order.output.join(self.binary));
        command.args(self.packages).current_dir(order.source);
        // The caller's flags and workspace are not the part's; static, so that it runs in any root file system.
        order.run(command.env("CGO_ENABLED", "0").env("GOFLAGS", "").env("GOWORK", "off"))
    }
}
