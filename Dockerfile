# Sandlot's images, from a clone of its repository. Each is one static program and nothing else:
#
#   docker build -t sandbox-control-plane:latest .                  sessions over REST, deploy/k8s
#   docker build --target operator -t sandlot:latest .              the operator, deploy/operator.yaml,
#                                                                   and what saves sandboxes on nodes
#   docker build --target agent    -t sandlot-agent:latest .        what comes into sandboxes' pods

FROM rust:1-bookworm AS build
WORKDIR /sandlot
COPY . .
ENV CARGO_TARGET_DIR=/build RUSTFLAGS="-C target-feature=+crt-static"
# With a target named, the flags are for the programs and not for what builds them. The agent
# comes first: it is in the other one, too.
RUN target="$(rustc -vV | sed -n 's/^host: //p')" && mkdir /out \
 && cargo build --profile agent --locked -p sandlot-agent --target "$target" \
 && cp "/build/$target/agent/sandlot-agent" /out/ \
 && SANDLOT_AGENT_BINARY=/out/sandlot-agent \
    cargo build --release --locked -p sandlot --target "$target" \
 && mkdir /out/bin && cp "/build/$target/release/sandlot" /out/bin/ \
 && ln -s sandlot /out/bin/image-committer

# What an init container copies into each sandbox's pod.
FROM scratch AS agent
COPY --from=build /out/sandlot-agent /sandlot-agent
# Under this name it is a task executor.
COPY --from=build /out/sandlot-agent /task-executor
ENTRYPOINT ["/sandlot-agent"]

# The controllers, as `sandlot operator`.
FROM scratch AS operator
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
# Under its other name it saves the containers of a node's containerd.
COPY --from=build /out/bin/ /usr/local/bin/
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/sandlot"]

# All of it in one: `sandlot gateway`, `sandlot operator`, and the agent for sessions' pods.
FROM operator AS control-plane
COPY --from=build /out/sandlot-agent /sandlot-agent
COPY --from=build /out/sandlot-agent /task-executor
