//! Sandlot on a cluster: its images, its custom resources, its operator.
//!
//! What other projects of this kind do with `make install`, `make deploy` and their like.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// The images that the manifests name.
const OPERATOR: &str = "sandlot:latest";
const AGENT: &str = "sandlot-agent:latest";

/// Options of `deploy`.
#[derive(clap::Args)]
pub(crate) struct Deploy {
    /// The operator's image, as the cluster can pull it.
    #[arg(long, env = "IMG", default_value = OPERATOR)]
    img: String,
    /// The image of the agent and task executor, as the cluster can pull it.
    #[arg(long, env = "TASK_EXECUTOR_IMG", default_value = AGENT)]
    task_executor_img: String,
    /// Print the manifests instead of applying them.
    #[arg(long)]
    dry_run: bool,
}

/// Options of `image`.
#[derive(clap::Args)]
pub(crate) struct Image {
    /// The operator's image.
    #[arg(long, env = "IMG", default_value = OPERATOR)]
    img: String,
    /// The image of the agent and task executor.
    #[arg(long, env = "TASK_EXECUTOR_IMG", default_value = AGENT)]
    task_executor_img: String,
    /// Push them, too.
    #[arg(long)]
    push: bool,
    /// The program that builds: `docker`, `podman` or `buildah`.
    #[arg(long, env = "CONTAINER_TOOL", default_value = "docker")]
    tool: String,
}

/// Applies the custom resources to the cluster that kubectl talks to.
pub(crate) fn install() -> Result<bool> {
    kubectl(&["apply", "--server-side", "-f", "deploy/crds"], None)
}

/// Removes the custom resources, and with them every object of theirs.
pub(crate) fn uninstall() -> Result<bool> {
    kubectl(&["delete", "--ignore-not-found", "-f", "deploy/crds"], None)
}

/// Applies the operator with these images.
pub(crate) fn deploy(options: &Deploy) -> Result<bool> {
    let manifests = manifests(options)?;
    if options.dry_run {
        print!("{manifests}");
        return Ok(true);
    }
    if has_controllers_of_its_own()? {
        return Ok(true);
    }
    kubectl(&["apply", "-f", "-"], Some(&manifests))
}

/// Removes the operator. Pods in use stay until their owners go.
pub(crate) fn undeploy() -> Result<bool> {
    if has_controllers_of_its_own()? {
        return Ok(true);
    }
    kubectl(
        &["delete", "--ignore-not-found", "-f", "deploy/operator.yaml"],
        None,
    )
}

/// Whether kubectl talks to a `sandlot up`, which serves no Deployments to deploy an operator as;
/// says so, if it does.
fn has_controllers_of_its_own() -> Result<bool> {
    let output = Command::new(kubectl_program())
        .args(["get", "--raw", "/version"])
        .output()
        .context("cannot run kubectl: is it installed?")?;
    if !output.status.success() {
        bail!(
            "the cluster does not say what it is: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let ours = is_sandlot(&String::from_utf8_lossy(&output.stdout));
    if ours {
        println!(
            "this is `sandlot up`, which runs the controllers itself: there is nothing to deploy \
             or undeploy; `cargo xtask deploy` is for clusters"
        );
    }
    Ok(ours)
}

/// Whether the version that an API tells is that of Sandlot's own.
fn is_sandlot(version: &str) -> bool {
    version.contains("+sandlot-")
}

/// Builds both images, and pushes them if asked to.
pub(crate) fn image(options: &Image) -> Result<bool> {
    let targets = [
        ("operator", &options.img),
        ("agent", &options.task_executor_img),
    ];
    for (target, name) in targets {
        let build = ["build", "--target", target, "-t", name, "."];
        if !run(&options.tool, &build, None)? {
            return Ok(false);
        }
    }
    for (_, name) in targets {
        if options.push && !run(&options.tool, &["push", name], None)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn manifests(options: &Deploy) -> Result<String> {
    let path = crate::root().join("deploy/operator.yaml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    with_images(&text, &options.img, &options.task_executor_img)
}

/// The manifests with other images in the place of those they name.
fn with_images(text: &str, operator: &str, agent: &str) -> Result<String> {
    let quoted = |name: &str| format!("\"{name}\"");
    for name in [OPERATOR, AGENT] {
        if !text.contains(&quoted(name)) {
            bail!("deploy/operator.yaml does not name the image {name}");
        }
    }
    // The agent's first: its name contains no other.
    Ok(text
        .replace(&quoted(AGENT), &quoted(agent))
        .replace(&quoted(OPERATOR), &quoted(operator)))
}

fn kubectl(words: &[&str], input: Option<&str>) -> Result<bool> {
    run(&kubectl_program(), words, input)
}

fn kubectl_program() -> String {
    std::env::var("KUBECTL").unwrap_or_else(|_| "kubectl".to_owned())
}

fn run(program: &str, words: &[&str], input: Option<&str>) -> Result<bool> {
    eprintln!("{program} {}", words.join(" "));
    let mut running = Command::new(program)
        .args(words)
        .current_dir(crate::root())
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .spawn()
        .with_context(|| format!("cannot run {program}: is it installed?"))?;
    if let (Some(input), Some(mut stdin)) = (input, running.stdin.take()) {
        stdin.write_all(input.as_bytes())?;
    }
    Ok(running.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_put_where_the_manifests_name_them() {
        let text = "image: \"sandlot:latest\"\nvalue: \"sandlot-agent:latest\"\n";
        let changed = with_images(text, "r/o:1", "r/a:2").unwrap();
        assert_eq!(changed, "image: \"r/o:1\"\nvalue: \"r/a:2\"\n");
        assert!(with_images("image: other", "a", "b").is_err());
    }

    #[test]
    fn an_api_of_our_own_is_told_by_its_version() {
        assert!(is_sandlot(r#"{"gitVersion": "v1.33.0+sandlot-0.1.0"}"#));
        assert!(!is_sandlot(r#"{"gitVersion": "v1.33.0+k3s1"}"#));
    }
}
