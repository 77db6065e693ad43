# One image for the shop, its commands and the load generators; docker-compose.yml says which.

FROM python:3.13-slim-bookworm AS build
# mysqlclient has no wheel for Linux.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libmariadb-dev pkg-config \
    && rm -rf /var/lib/apt/lists/*
COPY requirements.txt .
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        --require-hashes -r requirements.txt

FROM python:3.13-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends libmariadb3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin shop
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    BIND=0.0.0.0:8000

WORKDIR /app
COPY manage.py .
COPY deploy deploy
COPY inventory inventory
COPY loadtests loadtests
COPY shop shop
# The key serves this one command. Beside static/, var/ takes uploads, SQLite and the records of runs.
RUN SECRET_KEY=collectstatic python manage.py collectstatic --noinput \
    && mkdir -p var/media \
    && chown -R 10001:10001 var

USER 10001:10001
EXPOSE 8000
CMD ["gunicorn", "-c", "deploy/gunicorn.conf.py", "--worker-tmp-dir", "/dev/shm", "shop.wsgi"]
