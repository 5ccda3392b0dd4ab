# oodml for the CPU:  docker build -t oodml .
# With CUDA:          docker build -t oodml-cuda --build-arg INDEX=https://download.pytorch.org/whl/cu128 .
# Run:                docker run --rm -v "$PWD":/data oodml demo --out demo        (CUDA: add --gpus all)
FROM python:3.12-slim-bookworm

ARG INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 OODML_CACHE=/data/.oodml-cache

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# hadolint ignore=DL3013
RUN pip install --index-url "${INDEX}" torch torchvision \
    && pip install . \
    && useradd --uid 1000 --create-home oodml \
    && mkdir /data \
    && chown oodml /data

USER 1000
WORKDIR /data
ENTRYPOINT ["oodml"]
CMD ["--help"]
