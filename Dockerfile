# The server as a container: built here for the baseline instruction set (kernels choose theirs at start), run without
# shell or root. Context: the repository. BASE may name a mirror or a local copy of Debian 12 slim.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      gcc libc6-dev make libmicrohttpd-dev libjansson-dev libprotobuf-c-dev protobuf-c-compiler libuv1-dev libxxhash-dev zlib1g-dev liblmdb-dev libhiredis-dev libssl-dev libzstd-dev libopenblas-serial-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile ./
COPY model ./model
COPY proto ./proto
COPY server ./server
COPY deploy/image ./deploy/image
RUN make -j"$(nproc)" build
# The server and exactly the shared libraries that it loads, at their own paths.
RUN set -e; root=/image; install -D -m 755 build/release/dien-server $root/usr/bin/dien-server; strip $root/usr/bin/dien-server; \
    ldd build/release/dien-server | grep -oE '/[^ ]+' | sort -u | while read -r library; do \
      install -D -m 755 "$library" "$root$library"; done; \
    install -d $root/models $root/tmp; chmod 1777 $root/tmp; \
    cp -r model/demo $root/models/demo; chmod -R a+rX $root/models
# Scanners find the libraries' packages, their licences and an SBOM.
ARG VERSION=unknown
ARG SOURCE_DATE_EPOCH=0
RUN deploy/image/inventory.sh /image "$VERSION" $(ldd build/release/dien-server | grep -oE '/[^ ]+' | sort -u)

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="dien-server" \
      org.opencontainers.image.description="Ranks candidate items with a Deep Interest Evolution Network over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
COPY --from=build /image /
ENV DIEN_MODEL=/models/demo \
    DIEN_LISTEN=0.0.0.0:8080
USER 65532:65532
EXPOSE 8080
STOPSIGNAL SIGTERM
# At the address in DIEN_LISTEN: a server that gets another one by a flag needs a check of its own.
HEALTHCHECK --interval=10s --timeout=2s --start-period=10s --retries=3 CMD ["/usr/bin/dien-server", "--probe", "self"]
ENTRYPOINT ["/usr/bin/dien-server"]
