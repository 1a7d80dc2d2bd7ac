//! `sandlot image`: the images on this machine's node.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use sandlot_node::images_door::{Ask, Client, ImageInfo, Tell};
use tokio::io::AsyncRead;

use crate::args::{Image, Output};
use crate::{folders, table};

/// An archive on its way to the node.
type Archive = Box<dyn AsyncRead + Unpin>;

/// Asks the node, and shows what it did.
pub(crate) async fn run(command: &Image) -> Result<()> {
    match command {
        Image::List { node, output } => {
            let Tell::Images { images } = ask(node, &Ask::List {}, None).await? else {
                bail!("the node gives an answer to another question");
            };
            list(*output, &images)?;
        }
        Image::Pull { node, names } => {
            for name in names {
                show(ask(node, &Ask::Pull { name: name.clone() }, None).await?);
            }
        }
        Image::Import {
            node,
            archive,
            name,
        } => {
            let opened = open(archive).await?;
            show(ask(node, &Ask::Import { name: name.clone() }, Some(opened)).await?);
        }
        Image::Push { node, name, to } => {
            let to = to.as_ref().unwrap_or(name).clone();
            show(
                ask(
                    node,
                    &Ask::Push {
                        name: name.clone(),
                        to,
                    },
                    None,
                )
                .await?,
            );
        }
        Image::Commit {
            node,
            namespace,
            container,
            pod,
            name,
        } => {
            let commit = Ask::Commit {
                namespace: namespace.clone(),
                pod: pod.clone(),
                container: container.clone(),
                name: name.clone(),
            };
            show(ask(node, &commit, None).await?);
        }
        Image::Rm { node, names } => {
            for name in names {
                show(ask(node, &Ask::Remove { name: name.clone() }, None).await?);
            }
        }
        Image::Prune { node } => show(ask(node, &Ask::Prune {}, None).await?),
    }
    Ok(())
}

async fn ask(node: &Option<PathBuf>, ask: &Ask, archive: Option<Archive>) -> Result<Tell> {
    let folder = match node {
        Some(folder) => folder.clone(),
        None => folders::data()?,
    };
    let client = Client::connect(&folder.join("node")).await.with_context(|| {
        format!(
            "no Sandlot runs with the data folder {}: start `sandlot up`, or name the folder of one that runs with --data-dir",
            folder.display()
        )
    })?;
    let mut line = ProgressLine {
        of: subject(ask),
        is_there: false,
    };
    let told = client
        .ask(ask, archive, |done, all| line.show(done, all))
        .await;
    line.clear();
    match told.context("the node did not answer to the end")? {
        Tell::Failed { message } => bail!("{message}"),
        told => Ok(told),
    }
}

/// What is on its way while the node does this.
fn subject(ask: &Ask) -> String {
    match ask {
        Ask::Pull { name } => format!("pulling {name}"),
        Ask::Push { name, .. } => format!("pushing {name}"),
        Ask::Import { .. } => "importing".to_owned(),
        _ => "working".to_owned(),
    }
}

/// `-` is what comes in by the standard input.
async fn open(archive: &Path) -> Result<Archive> {
    if archive == Path::new("-") {
        return Ok(Box::new(tokio::io::stdin()));
    }
    let file = tokio::fs::File::open(archive).await;
    Ok(Box::new(file.with_context(|| {
        format!("cannot open {}", archive.display())
    })?))
}

fn show(told: Tell) {
    match told {
        Tell::Images { images } => images.iter().for_each(|image| println!("{}", image.name)),
        Tell::Pushed { digest } => println!("{digest}"),
        Tell::Removed { removed } => {
            removed
                .images
                .iter()
                .for_each(|image| println!("removed {image}"));
            println!("{} freed", size(removed.bytes));
        }
        Tell::Progress { .. } | Tell::Failed { .. } => {}
    }
}

fn list(output: Output, images: &[ImageInfo]) -> Result<()> {
    table::print(
        output,
        &["NAME", "ID", "SIZE", "ORIGIN", "USED BY"],
        images,
        |image| {
            let id = image
                .id
                .rsplit_once("sha256:")
                .map_or(image.id.as_str(), |(_, hex)| hex);
            let used = match image.used_by.as_slice() {
                [] => "-".to_owned(),
                [one] => one.clone(),
                [one, more @ ..] => format!("{one} and {} more", more.len()),
            };
            vec![
                image.name.clone(),
                id.chars().take(12).collect(),
                if image.size_bytes == 0 {
                    "-".to_owned()
                } else {
                    size(image.size_bytes)
                },
                image.origin.clone(),
                used,
            ]
        },
    )
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 999.5 && unit + 1 < units.len() {
        amount /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if amount < 9.95 => format!("{amount:.1} {}", units[unit]),
        _ => format!("{amount:.0} {}", units[unit]),
    }
}

/// How far it is, on one line of a terminal; a script sees nothing of it.
struct ProgressLine {
    of: String,
    is_there: bool,
}

impl ProgressLine {
    fn show(&mut self, done: u64, all: u64) {
        let mut to = std::io::stderr();
        if done == 0 || !to.is_terminal() {
            return;
        }
        self.is_there = true;
        let words = progress(done, all);
        // A terminal that has gone needs no progress; one that is narrow is not filled with it.
        let _ = write!(to, "\r\x1b[K\x1b[?7l{}: {words}\x1b[?7h", self.of);
        let _ = to.flush();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_there) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// How much of all is done, in words.
fn progress(done: u64, all: u64) -> String {
    match all {
        0 => size(done),
        all => format!(
            "{} of {} ({} %)",
            size(done.min(all)),
            size(all),
            done.min(all).saturating_mul(100) / all
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_all_is_never_done() {
        assert_eq!(progress(500, 0), "500 B");
        assert_eq!(progress(500, 1000), "500 B of 1.0 kB (50 %)");
        assert_eq!(progress(1200, 1000), "1.0 kB of 1.0 kB (100 %)");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, words) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (12_345, "12 kB"),
            (999_999, "1.0 MB"),
            (3_200_000_000, "3.2 GB"),
        ] {
            assert_eq!(size(bytes), words);
        }
    }
}
