# The bridge for docker-compose.yml: `ari-bridge run`, not as root.
FROM python:3.13-slim AS build

WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY bridge bridge
COPY agents agents
COPY asterisk-config asterisk-config
COPY observability observability
COPY systemd systemd
# The lock's versions of what the bridge with its offline engine needs, without the tools of its
# developers. (pip checks hashes only where every file has one, and our own folder can't.)
RUN grep -oE '^[A-Za-z0-9_.-]+==[^ ;]+( ; [^\\]+)?' requirements.lock >/tmp/constraints.txt \
 && python -m venv /opt/ari-bridge \
 && /opt/ari-bridge/bin/pip install --no-cache-dir -c /tmp/constraints.txt '.[offline,opus,websocket]' \
 && /opt/ari-bridge/bin/pip uninstall -y pip

# What is built stays behind: the image holds the environment alone.
FROM python:3.13-slim

COPY --from=build /opt/ari-bridge /opt/ari-bridge
RUN useradd --system --uid 990 --create-home bridge

USER bridge
WORKDIR /home/bridge
ENV PATH=/opt/ari-bridge/bin:$PATH PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
ENTRYPOINT ["ari-bridge"]
CMD ["run", "--config", "/etc/ari-bridge/bridge.toml"]
