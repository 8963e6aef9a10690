"""What goes in: data sets as files and arrays, images on the device, who is forgotten."""
