# kvwire with io_uring and RDMA on Debian 12. How to run it, with the settings that io_uring and RDMA need: docs/install.md.
FROM golang:1.26-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev libibverbs-dev librdmacm-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /kvwire
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build

FROM debian:12-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends libibverbs1 librdmacm1 ibverbs-providers \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /kvwire/bin/kvwire /usr/local/bin/kvwire
COPY --from=build /kvwire/LICENSE /usr/share/doc/kvwire/LICENSE
# Results and stores go to the working directory: mount a folder of the host here.
WORKDIR /kvwire
ENTRYPOINT ["kvwire"]
CMD ["doctor"]
