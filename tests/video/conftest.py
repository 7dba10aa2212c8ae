"""A camera in the network, for tests of live sources."""

import io
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def stream():
    """An HTTP server of JPEG files in one multipart response, as network cameras have; the address of its stream."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for index in range(60):
                data = io.BytesIO()
                Image.fromarray(np.full((48, 64, 3), 4 * index, np.uint8)).save(data, "JPEG")
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {data.tell()}\r\n\r\n".encode()
                try:
                    self.wfile.write(head + data.getvalue() + b"\r\n")
                except OSError:
                    return  # the client has gone
                time.sleep(0.01)

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://user:secret@127.0.0.1:{server.server_address[1]}/live/cam"
        server.shutdown()
