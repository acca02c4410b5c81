"""Downloads against a server on this machine: cut connections, changed files, no network."""

import hashlib
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from convnextv2.data.transforms.geometry import CenterFit
from convnextv2.errors import LoadError, UserError
from convnextv2.models import SIZES
from convnextv2.weights.sources import download
from convnextv2.weights.sources.download import cache_folder, fetch
from convnextv2.weights.sources.published import PUBLISHED, published

CONTENT = bytes(range(256)) * 20_000  # five megabytes


class Host(ThreadingHTTPServer):
    """Serves `content` at any path; closes the connection after so many bytes as `cuts` says, in turn."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag = CONTENT, '"one"'
        self.cuts, self.ranges, self.asked, self.shifted, self.busy = [], True, [], 0, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/weights.pt"


class Handler(BaseHTTPRequestHandler):
    server: Host

    def log_message(self, *_):
        pass

    def do_GET(self):
        host, start = self.server, 0
        asked = self.headers.get("Range")
        host.asked.append(asked)
        if "missing" in self.path:
            self.send_error(404)
            return
        if host.busy:
            host.busy -= 1
            self.send_error(503)
            return
        if asked == f"bytes={len(host.content)}-":
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(host.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if asked and host.ranges and self.headers.get("If-Range") == host.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            told = start + host.shifted
            self.send_header("Content-Range", f"bytes {told}-{len(host.content) - 1}/{len(host.content)}")
        else:
            self.send_response(200)
        body = host.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", host.etag)
        self.end_headers()
        if host.cuts:
            self.wfile.write(body[: host.cuts.pop(0)])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(body)


def killed(*_):
    raise KeyboardInterrupt


@pytest.fixture
def host():
    with Host() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_it_comes_once_and_its_hash_is_kept(host, tmp_path):
    seen = []
    file = fetch(host.url, folder=tmp_path, progress=lambda there, whole: seen.append((there, whole)))
    assert file.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert (tmp_path / "weights.pt.sha256").read_text().split()[0] == hashlib.sha256(CONTENT).hexdigest()
    assert fetch(host.url, folder=tmp_path) == file
    assert len(host.asked) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".weights.pt.lock", "weights.pt", "weights.pt.sha256"]


def test_a_cut_download_goes_on_where_it_stopped(host, tmp_path):
    host.cuts = [2_000_000] * 2
    assert fetch(host.url, folder=tmp_path).read_bytes() == CONTENT
    assert host.asked[0] is None
    starts = [int(asked.removeprefix("bytes=").rstrip("-")) for asked in host.asked[1:]]
    assert len(starts) == 2
    assert 0 < starts[0] <= 2_000_000 < starts[1] <= 4_000_000


def test_it_goes_on_in_a_later_call(host, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TRIES", 1)
    host.cuts = [2_000_000, 0]
    with pytest.raises(UserError, match=r"cannot be reached"):
        fetch(host.url, folder=tmp_path)
    assert not (tmp_path / "weights.pt").exists()
    assert fetch(host.url, folder=tmp_path).read_bytes() == CONTENT
    assert 0 < int(host.asked[1].removeprefix("bytes=").rstrip("-")) <= 2_000_000


def test_it_goes_on_as_long_as_each_try_brings_something(host, tmp_path):
    host.cuts = [400_000] * 12
    assert fetch(host.url, folder=tmp_path).read_bytes() == CONTENT
    assert len(host.asked) == 13


def test_what_had_come_whole_is_not_fetched_again(host, tmp_path, monkeypatch):
    """The process died between the last byte and the name."""
    monkeypatch.setattr(download, "_check", killed)
    with pytest.raises(KeyboardInterrupt):
        fetch(host.url, folder=tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "weights.pt").exists()
    assert fetch(host.url, folder=tmp_path).read_bytes() == CONTENT
    assert host.asked == [None, f"bytes={len(CONTENT)}-"]


def test_a_busy_server_is_asked_again(host, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    host.busy = 2
    assert fetch(host.url, folder=tmp_path).read_bytes() == CONTENT
    host.busy = 100
    with pytest.raises(UserError, match=r"cannot be reached \(the server returned 503 Service Unavailable\)"):
        fetch(host.url.replace("weights", "other"), folder=tmp_path)


def test_a_file_that_changed_between_two_parts_is_fetched_anew(host, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "_TRIES", 1)
    host.cuts = [2_000_000, 0]
    with pytest.raises(UserError):
        fetch(host.url, folder=tmp_path)
    host.content, host.etag = bytes(3_000_000), '"two"'
    assert fetch(host.url, folder=tmp_path).read_bytes() == host.content


def test_a_server_without_ranges_starts_anew(host, tmp_path):
    host.cuts, host.ranges = [2_000_000], False
    assert fetch(host.url, folder=tmp_path).read_bytes() == CONTENT


def test_another_part_than_asked_for_is_not_taken(host, tmp_path):
    host.cuts, host.shifted = [2_000_000], 7
    with pytest.raises(UserError, match=r"the server sent bytes \d+-\d+/\d+ in place of the rest"):
        fetch(host.url, folder=tmp_path)
    assert not (tmp_path / "weights.pt").exists()


def test_an_error_of_the_encryption_is_one_of_the_network(host, tmp_path, monkeypatch):
    def broken(*_, **__):
        raise ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]")

    monkeypatch.setattr(download, "_go_on", broken)
    with pytest.raises(UserError, match=r"cannot be reached \(.*BAD_RECORD_MAC"):
        fetch(host.url, folder=tmp_path)


def test_a_record_that_is_no_text_is_another_hash(host, tmp_path):
    fetch(host.url, folder=tmp_path)
    (tmp_path / "weights.pt.sha256").write_bytes(b"\xff\xfe")
    with pytest.raises(LoadError, match=r"as at its first download"):
        fetch(host.url, folder=tmp_path)


def test_another_hash_than_recorded_is_refused(host, tmp_path):
    file = fetch(host.url, folder=tmp_path)
    damaged = bytearray(CONTENT)
    damaged[1234] ^= 1
    file.write_bytes(damaged)
    with pytest.raises(LoadError, match=r"SHA-256 is .* as at its first download"):
        fetch(host.url, folder=tmp_path)
    file.unlink()
    host.content, host.etag = bytes(damaged), '"two"'
    with pytest.raises(LoadError, match=r"SHA-256 is"):
        fetch(host.url, folder=tmp_path)
    host.content = CONTENT
    assert fetch(host.url, folder=tmp_path).read_bytes() == CONTENT


def test_a_missing_file_and_no_network_say_what_to_do(host, tmp_path):
    with pytest.raises(UserError, match=r"the server returned 404"):
        fetch(host.url.replace("weights", "missing"), folder=tmp_path)
    url = host.url
    host.shutdown()
    host.server_close()
    with pytest.raises(UserError, match=rf"cannot be reached \(.*refused.*put the file there yourself: {tmp_path}"):
        fetch(url, folder=tmp_path)


def test_a_file_put_there_by_hand_is_taken(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"by hand")
    assert fetch("http://127.0.0.1:9/weights.pt", folder=tmp_path).read_bytes() == b"by hand"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"set CONVNEXTV2_CACHE"):
        fetch("http://127.0.0.1:9/weights.pt", folder=tmp_path / "file")


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.setenv("CONVNEXTV2_CACHE", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    monkeypatch.delenv("CONVNEXTV2_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "convnextv2"


def test_the_published_table_is_whole():
    v2 = [entry for entry in PUBLISHED.values() if entry.model.startswith("convnextv2")]
    assert len(v2) == 8 + 8 + 10
    assert len({entry.url for entry in PUBLISHED.values()}) == len(PUBLISHED)
    assert {entry.model for entry in PUBLISHED.values()} <= SIZES.keys()
    assert all(entry.licence == "CC-BY-NC-4.0" for entry in v2)
    huge = published("convnextv2_huge.fcmae_ft_in22k_in1k_512")
    assert (huge.top1, huge.image_size) == (88.9, 512)
    assert CenterFit(huge.image_size, crop_pct=huge.crop_pct).whole
    assert not CenterFit(224, crop_pct=published("convnextv2_atto.fcmae_ft_in1k").crop_pct).whole
    assert huge.url.endswith("/convnextv2/im22k/convnextv2_huge_22k_512_ema.pt")


def test_the_names_are_those_of_timm():
    import timm

    tags = set(timm.list_pretrained("convnext*"))
    assert PUBLISHED.keys() - tags == {"convnext_base.fb_in1k_384", "convnext_large.fb_in1k_384"}  # timm has not these
    assert {tag for tag in tags if ".fb_" in tag} <= PUBLISHED.keys()
    assert {tag for tag in tags if tag.startswith("convnextv2")} <= PUBLISHED.keys()


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(UserError, match=r"did you mean .*convnextv2_tiny\.fcmae_ft_in22k_in1k"):
        published("convnextv2_tiny.fcmae_in22k_in1k")
