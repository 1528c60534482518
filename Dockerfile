# One image for release, web, worker and ops; the command says which.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv --without-pip /opt/venv
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        --requirement requirements/build.txt \
 && pip --python /opt/venv/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --requirement requirements/runtime.txt
COPY . .
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-deps /dist/*.whl \
 && python -m compileall -q /opt/venv

FROM python:3.13-slim
# Nothing is installed in a container that runs.
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /opt/venv
EXPOSE 8080 8090 9464
CMD ["python", "-m", "webhook_receiver"]
