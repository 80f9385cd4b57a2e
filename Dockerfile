# The bridge for docker-compose.yml: media process and worker under `ari-bridge run`, not as root.
FROM python:3.13-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY bridge bridge
COPY agents agents
# The lock's versions of what the bridge with its offline engine needs, without the tools of its
# developers. (pip checks hashes only where every file has one, and our own folder can't.)
RUN grep -oE '^[A-Za-z0-9_.-]+==[^ ;]+( ; [^\\]+)?' requirements.lock >/tmp/constraints.txt \
 && pip install --no-cache-dir -c /tmp/constraints.txt '.[offline,opus]' \
 && useradd --system --uid 990 --create-home bridge \
 && install -d -o bridge -m 0700 /run/ari-bridge

USER bridge
WORKDIR /home/bridge
ENV PYTHONUNBUFFERED=1 OPENBLAS_NUM_THREADS=1
ENTRYPOINT ["ari-bridge"]
CMD ["run", "--config", "/etc/ari-bridge/bridge.toml"]
