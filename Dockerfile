# The relay alone: Python, its shared libraries, the relay. No shell, no package manager, no pip.
#
#   docker build -t flagsmith-heap-relay .
#
# How to run it is in docs/docker.md and docs/kubernetes.md. BASE_IMAGE is a slim Python of Debian; who wants the same bytes
# again gives it with its digest, as the release does: --build-arg BASE_IMAGE=python:3.13-slim-bookworm@sha256:…
ARG BASE_IMAGE=docker.io/library/python:3.13-slim-bookworm

FROM ${BASE_IMAGE} AS build

# Whoever builds the same sources on the same base gets the same layers: nothing in them is younger than this.
ARG SOURCE_DATE_EPOCH=1767225600
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

RUN ["python", "-m", "venv", "--without-pip", "/app"]
COPY requirements/run.txt requirements/run.txt
RUN ["python", "-m", "pip", "--python", "/app/bin/python", "install", "--no-compile", "--require-hashes", "-r", "requirements/run.txt"]
COPY pyproject.toml README.md LICENSE ./
COPY relay relay
RUN ["python", "-m", "pip", "--python", "/app/bin/python", "install", "--no-compile", "--no-deps", "--no-build-isolation", "."]
COPY scripts/rootfs.py /rootfs.py
RUN ["python", "/rootfs.py", "/rootfs"]

FROM scratch

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="flagsmith-heap-relay" \
      org.opencontainers.image.description="A reverse proxy in front of Flagsmith that tells Heap which flags each identity saw" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=build /rootfs /

# Writable is what is mounted, and nothing else has to be: /var/lib/relay for the outbox.
ENV PATH=/app/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /var/lib/relay
USER 65532:65532
EXPOSE 18080 19090
# The admin port's default; Kubernetes has probes of its own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/app/bin/relay", "health"]
ENTRYPOINT ["/app/bin/relay"]
CMD ["run", "-c", "/etc/relay/config.yaml"]
