"""What critics of camera-controlled world models doubt, as measurements of any world."""
