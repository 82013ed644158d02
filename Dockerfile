# ckpt alone, without TensorFlow: docker build -t ckpt . && docker run --rm -v "$PWD:/data:ro" ckpt inspect RUN
FROM python:3.12-slim AS build
COPY . /src
# Every file that is fetched has the digest that is written down; the build backend is one of them.
RUN pip install --no-cache-dir --require-hashes -r /src/requirements/build.txt \
 && pip wheel --no-cache-dir --wheel-dir /wheels --require-hashes -r /src/requirements/plain.txt \
 && pip wheel --no-cache-dir --wheel-dir /wheels --no-deps --no-build-isolation /src \
 && rm /wheels/setuptools-*

FROM python:3.12-slim
RUN --mount=from=build,source=/wheels,target=/wheels pip install --no-cache-dir --no-index /wheels/*.whl \
 && useradd --create-home --uid 1000 ckpt
USER ckpt
WORKDIR /data
ENTRYPOINT ["ckpt"]
