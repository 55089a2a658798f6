"""How the images of the nodes are made and where they are kept."""
