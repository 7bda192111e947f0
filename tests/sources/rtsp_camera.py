"""An RTSP camera on 127.0.0.1, run by the system's Python: rtsp_camera.py WIDTH HEIGHT [--port N] [--fps N] [--clock].

Prints its port, and then a line "setup tcp" or "setup udp" for each client. With --clock the pictures carry
`time.monotonic()` in their pixels; see `edge_clock`. Serves /cam, and /udp where TCP is refused.

Needs Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and gstreamer1.0-plugins-{base,good,bad,ugly}.
"""

import argparse
import sys
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

BITS = 32
"""Of the clock in the picture: tenths of a millisecond, as a row of black and white cells, the lowest bit first."""

parser = argparse.ArgumentParser()
parser.add_argument("width", type=int)
parser.add_argument("height", type=int)
parser.add_argument("--port", default="0")
parser.add_argument("--fps", type=int, default=15)
parser.add_argument("--clock", action="store_true")
asked = parser.parse_args()
Gst.init(None)
if Gst.ElementFactory.find("x264enc") is None or Gst.ElementFactory.find("rtph264pay") is None:
    sys.exit("GStreamer has no x264enc or rtph264pay")

caps = f"video/x-raw,width={asked.width},height={asked.height},framerate={asked.fps}/1"
encode = "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=5 ! rtph264pay name=pay0 pt=96 config-interval=1"


def picture() -> bytes:
    """Return an I420 picture with the time."""
    ticks = int(time.monotonic() * 1e4)
    cell = asked.width // BITS
    row = b"".join((b"\xeb" if ticks >> bit & 1 else b"\x10") * cell for bit in range(BITS))
    row += b"\x10" * (asked.width - len(row))
    return row * asked.height + b"\x80" * (asked.width * asked.height // 2)


def feed(factory: object, media: GstRtspServer.RTSPMedia) -> None:
    """Push a picture at each tick, for as long as the media lives."""
    source = media.get_element().get_by_name_recurse_up("clock")

    def push() -> bool:
        return source.emit("push-buffer", Gst.Buffer.new_wrapped(picture())) == Gst.FlowReturn.OK

    timer = GLib.timeout_add(round(1000 / asked.fps), push)
    media.connect("unprepared", lambda media: GLib.source_remove(timer))


def add(path: str, transport: GstRtsp.RTSPLowerTrans) -> None:
    media = GstRtspServer.RTSPMediaFactory()
    media.set_shared(True)
    media.set_protocols(transport)
    if asked.clock:
        full = caps.replace("x-raw,", "x-raw,format=I420,")
        media.set_launch(f"( appsrc name=clock is-live=true do-timestamp=true format=time caps={full} ! {encode} )")
        media.connect("media-configure", feed)
    else:
        media.set_launch(f"( videotestsrc is-live=true pattern=ball ! {caps} ! {encode} )")
    server.get_mount_points().add_factory(path, media)


def said(client: object, context: GstRtspServer.RTSPContext) -> None:
    lower = context.trans.get_transport().lower_transport
    print("setup", "tcp" if lower & GstRtsp.RTSPLowerTrans.TCP else "udp", flush=True)


server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service(asked.port)
add("/cam", GstRtsp.RTSPLowerTrans.TCP | GstRtsp.RTSPLowerTrans.UDP)
add("/udp", GstRtsp.RTSPLowerTrans.UDP)
server.connect("client-connected", lambda server, client: client.connect("setup-request", said))
if not server.attach(None):
    sys.exit("cannot listen")
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
