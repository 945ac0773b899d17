# The service in a container: digitry serve, as a user without rights, on a file system of its own.
#   docker build -t digitry . && docker run --read-only -p 8000:8000 -e DIGITRY_TOKEN=... digitry
#
# The base is named by its digest, so that an image can be built again; another one, for example with newer
# patches of the system, is given as an argument. The first command prints its digest:
#   docker buildx imagetools inspect python:3.13-slim --format '{{.Manifest.Digest}}'
#   docker build --build-arg BASE=python:3.13-slim@sha256:... -t digitry .
#
# HEIC is not read: the wheels of pillow-heif hold x265, under the GPL. Who does not pass the image on, or
# keeps to the GPL, adds it: FROM digitry / USER root / RUN pip install pillow-heif / USER 10001
ARG BASE=python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
FROM ${BASE} AS build
WORKDIR /src
# Every package in the version, and by the sha256, that requirements/serve.txt locks.
COPY requirements/serve.txt requirements/
RUN python -m venv /opt/digitry \
    && /opt/digitry/bin/pip install --no-cache-dir --require-hashes --no-deps -r requirements/serve.txt
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY samples samples
COPY src src
RUN /opt/digitry/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/digitry/bin/pip check

FROM ${BASE}
LABEL org.opencontainers.image.title="digitry" \
      org.opencontainers.image.source="https://github.com/digitry/digitry" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --system --uid 10001 --create-home --home-dir /data digitry
COPY --from=build /opt/digitry /opt/digitry
ENV PATH=/opt/digitry/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    XDG_DATA_HOME=/data
USER 10001
# Corrections lie here unless --db names a server.
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
# Without DIGITRY_TOKEN it refuses to start: the address is open to others.
ENTRYPOINT ["digitry", "serve", "--host", "0.0.0.0", "--port", "8000"]
