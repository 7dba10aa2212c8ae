"""What the encoder is good for besides relative depth (V1 sections 4.3, 4.4; ControlNet)."""
