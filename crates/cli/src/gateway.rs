//! Sessions over REST: beside everything else on this machine, or on a cluster.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use anyhow::{Context, Result};
use kube::Client;
use sandlot_access::PrivateKey;
use sandlot_gateway::{CREDENTIALS, FIRST_TOKEN, Prepared, Serving, Settings, hash_of};
use sandlot_node::MissingImages;

use crate::{args, folders, interrupts::Interrupts, memory, target};

/// The image that is this machine's own `/usr`.
const HOST_IMAGE: &str = "host";

/// `sandlot gateway`: serves until told to stop.
pub(crate) async fn run(options: &args::Gateway) -> Result<()> {
    if let Some(name) = &options.new_token {
        return new_token(name);
    }
    if options.prepare {
        return prepare(options).await;
    }
    memory::hold_on_to_nothing();
    let folder = match &options.data_dir {
        Some(named) => named.clone(),
        None => folders::data()?.join("gateway"),
    };
    make_private(&folder)?;
    let variable = |name: &str| std::env::var(name).ok();
    let settings = Settings::from_environment(&folder, variable)?;
    let (client, _) = target::connect(&options.target).await?;
    let mut interrupts = Interrupts::listen()?;
    let serving = tokio::select! {
        serving = Serving::start(client, settings) => serving?,
        _ = interrupts.first() => return Ok(()),
    };
    println!("Sessions are served on http://{}", serving.address());
    interrupts.first().await;
    println!("stopping; Ctrl-C again to stop at once");
    tokio::select! {
        () = serving.stop() => println!("stopped"),
        _ = interrupts.first() => println!("stopped at once"),
    }
    Ok(())
}

/// Makes what a new deployment needs.
async fn prepare(options: &args::Gateway) -> Result<()> {
    let (client, _) = target::connect(&options.target).await?;
    sandlot_operator::install_crds(client.clone()).await?;
    println!("the custom resources are there");
    let own = client.default_namespace().to_owned();
    let namespace = std::env::var("POD_NAMESPACE").unwrap_or(own);
    match sandlot_gateway::prepare(client, &namespace).await? {
        Prepared::Made => println!(
            "made Secret {CREDENTIALS}; the first token waits in Secret {FIRST_TOKEN} of \
             namespace {namespace}: read it, and delete it"
        ),
        Prepared::AlreadyThere => println!("Secret {CREDENTIALS} is there already"),
    }
    Ok(())
}

/// Starts the gateway of `sandlot up`.
pub(crate) async fn beside(
    client: Client,
    folder: &Path,
    listen: Option<SocketAddr>,
    key: PrivateKey,
    images: MissingImages,
) -> Result<Serving> {
    let folder = folder.join("gateway");
    make_private(&folder)?;
    let mut settings = Settings::in_folder(&folder);
    settings.listen = listen.unwrap_or_else(|| usual_or_free(settings.listen));
    settings.key = Some(key);
    if images == MissingImages::Host {
        settings.default_image = HOST_IMAGE.to_owned();
        settings.languages_image = HOST_IMAGE.to_owned();
    }
    Serving::start(client, settings)
        .await
        .context("sessions could not be served; choose another address with --gateway, or leave them out with --no-gateway")
}

/// The usual address, or any free port beside it when somebody else listens there.
fn usual_or_free(usual: SocketAddr) -> SocketAddr {
    match TcpListener::bind(usual) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => SocketAddr::new(usual.ip(), 0),
        _ => usual,
    }
}

/// A token nobody has had before. It is told this once; only its hash is to be kept.
fn new_token(name: &str) -> Result<()> {
    let token = PrivateKey::generate()?.reveal();
    println!("token: {token}");
    println!("SANDLOT_GATEWAY_TOKENS={name}:user:{}", hash_of(&token));
    Ok(())
}

fn make_private(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the data folder {}", folder.display()))
}
