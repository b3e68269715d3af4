"""Of a server, with its settings: what it would need to start, and to do its work."""

import asyncio
from pathlib import Path
from secrets import token_hex

import httpx2
import sqlalchemy as sa

from penstock.blobs.open import Access, open_blobs
from penstock.blobs.spool import Spool
from penstock.clock import Clock
from penstock.directory import make_directory
from penstock.doctor.check import NOT_FOUND, USAGE, Finding, fails, holds, unknown, warns
from penstock.doctor.google import Google
from penstock.errors import BlobError, ConfigurationError, PenstockError, ProviderError
from penstock.keyring import Keyring
from penstock.providers.vertex import TIMEOUT_SECONDS
from penstock.settings import Settings, catalogue
from penstock.store.database import REVISION, VERSION_TABLE, sqlite_url
from penstock.store.location import Location, location_of
from penstock.store.postgres import open_for_migrations
from penstock.wiring import blobs_endpoint, check, token_of

_PROBE = "doctor"


async def look(settings: Settings, clock: Clock) -> list[Finding]:
    """Check the parts of a server one by one; nothing of it stays behind."""
    complete = settings_complete(settings)
    findings = [complete]
    if complete.exit_code:
        return findings
    findings.append(secret(settings))
    findings.append(await asyncio.to_thread(database, location_of(settings)))
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
        findings.append(await blobs(settings, clock, http))
        findings.append(await asyncio.to_thread(room, settings))
        findings.append(await provider(settings, http))
    return findings


def settings_complete(settings: Settings) -> Finding:
    """Do what `penstock serve --check` does."""
    try:
        check(settings)
    except ConfigurationError as error:
        return fails("settings", error.message, error.hint or "see docs/settings.md", USAGE)
    where = f"project {settings.vertex.project or 'none'}, bucket {settings.vertex.bucket}"
    return holds("settings", f"complete for the role {settings.role}: {where}")


def secret(settings: Settings) -> Finding:
    """Tell whether there is a master secret, without which no key and no link would hold."""
    if not Keyring.is_there(settings.secret, settings.data_dir):
        return holds("secret", f"none yet: the first start makes one in {settings.data_dir}")
    if settings.secret:
        return holds("secret", "set in the settings")
    mode = (settings.data_dir / "secret").stat().st_mode & 0o777
    if mode & 0o077:
        todo = f"chmod 600 {settings.data_dir / 'secret'}"
        return warns("secret", f"its file has mode {mode:04o}: others can read it", todo)
    return holds("secret", f"in {settings.data_dir}, mode {mode:04o}")


def database(location: Location) -> Finding:
    """Tell whether the database answers and is at this version; nothing is migrated."""
    if isinstance(location, Path) and not location.exists():
        return holds("database", f"{location} is not there yet: the first start makes it")
    engine = (
        sa.create_engine(sqlite_url(location), hide_parameters=True)
        if isinstance(location, Path)
        else open_for_migrations(location)
    )
    try:
        with engine.connect() as connection:
            names = sa.inspect(connection).get_table_names()
            revision = (
                connection.execute(sa.select(VERSION_TABLE.c.version_num)).scalar_one_or_none()
                if VERSION_TABLE.name in names
                else None
            )
    except sa.exc.SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or type(error).__name__).strip()
        todo = "look at PENSTOCK_DATABASE_URL, and whether the database runs"
        return fails("database", f"{location} does not answer: {said}", todo)
    finally:
        engine.dispose()
    return _migrated(location, revision, is_empty=not names)


def _migrated(location: Location, revision: str | None, *, is_empty: bool) -> Finding:
    if revision == REVISION:
        return holds("database", f"{location}, at revision {revision}", revision=revision)
    if is_empty:
        return holds("database", f"{location} is empty: the first start makes its tables")
    if revision is None:
        return fails("database", f"{location} is not one of Penstock's", "name another", USAGE)
    if revision > REVISION:
        todo = "start the version that wrote it, or a newer one"
        return fails("database", f"{location} was written by a newer Penstock", todo, USAGE)
    todo = "have a backup: the next start migrates it"
    return warns("database", f"{location} is at revision {revision}, not yet {REVISION}", todo)


async def blobs(settings: Settings, clock: Clock, http: httpx2.AsyncClient) -> Finding:
    """Write a small file as a job's input is written, and remove it."""
    place = settings.blobs_url or str(settings.data_dir)
    job_id = f"{_PROBE}_{token_hex(8)}"
    try:
        await asyncio.to_thread(make_directory, settings.data_dir)
        spool = await asyncio.to_thread(Spool, settings.data_dir)
        token = token_of(settings)
        access = Access(endpoint=blobs_endpoint(settings), token=token, http=http, clock=clock)
        store = open_blobs(settings.blobs_url, spool, access)
        part = await asyncio.to_thread(spool.begin, job_id, _PROBE)
        try:
            await asyncio.to_thread(part.write, b"{}\n")
            await store.commit(job_id, {_PROBE: part})
        finally:
            await asyncio.to_thread(part.discard)
        await store.remove_job(job_id)
    except (OSError, PenstockError, BlobError) as error:
        said = error.message if isinstance(error, PenstockError) else str(error)
        todo = "look at the rights and the room there (PENSTOCK_DATA_DIR, PENSTOCK_BLOBS_URL)"
        return fails("blobs", f"{place} cannot be written to: {said}", todo)
    return holds("blobs", f"{place}: written and removed")


def room(settings: Settings) -> Finding:
    """Tell whether uploads would be taken now."""
    use = Spool(settings.data_dir, is_counted=settings.spool_bytes_max > 0).measure()
    least, most = settings.disk_free_bytes_min, settings.spool_bytes_max
    saw = f"{use.free_bytes / 1e9:,.1f} of {use.total_bytes / 1e9:,.1f} GB free"
    if use.free_bytes < least:
        todo = "make room: uploads get 507 below PENSTOCK_DISK_FREE_BYTES_MIN"
        return fails("disk", f"{saw}, less than the {least / 1e9:,.1f} GB to be left", todo)
    if most and use.stored_bytes >= most:
        return fails("disk", f"spool_bytes_max ({most:,}) is used up", "delete jobs, or raise it")
    if use.free_bytes < 2 * least + settings.limits.job_bytes_max:
        return warns("disk", saw, "make room: a job of the largest size may not fit any more")
    return holds("disk", saw, free_bytes=use.free_bytes)


async def provider(settings: Settings, http: httpx2.AsyncClient) -> Finding:
    """List one batch job, as a worker does all the time."""
    if not settings.works:
        return unknown("vertex", "an API process does not call it")
    location = settings.vertex.location or catalogue(settings)[settings.default_model].location
    where = settings.vertex.base_url or f"Vertex AI at {location}"
    try:
        google = Google(settings.vertex, token_of(settings), http)
        answer = await google.jobs(location, pageSize="1")
    except ConfigurationError as error:
        return fails("vertex", error.message, error.hint or "", USAGE)
    except ProviderError as error:
        return fails("vertex", f"{where} does not answer: {error.message}", "look at the network")
    if answer.is_good:
        return holds("vertex", f"{where} lists the jobs of {settings.vertex.project}")
    todo = "penstock doctor --vertex says what is missing"
    code = NOT_FOUND if answer.status == httpx2.codes.NOT_FOUND else 1
    return fails("vertex", f"{where} answered {answer.said}", todo, code)
