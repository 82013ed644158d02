# ckpt alone, without TensorFlow: docker build -t ckpt . && docker run --rm -v "$PWD:/data:ro" ckpt inspect RUN
FROM python:3.12-slim AS build
COPY . /src
RUN pip wheel --no-cache-dir --wheel-dir /wheels -c /src/constraints.txt /src

FROM python:3.12-slim
RUN --mount=from=build,source=/wheels,target=/wheels pip install --no-cache-dir --no-index /wheels/*.whl \
 && useradd --create-home --uid 1000 ckpt
USER ckpt
WORKDIR /data
ENTRYPOINT ["ckpt"]
